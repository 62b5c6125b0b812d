"""regrow tickets: a line for each, and how alike they are."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cli.conftest import Call
from regrow.core.topology import Topology
from regrow.tickets import Ticket


def some(path: Path, seed: int) -> Path:
    topology = Topology.from_masks({"w": torch.rand(20, 50, generator=torch.Generator().manual_seed(seed)) < 0.2})
    Ticket({"w": torch.ones(topology.nnz)}, topology, {"step": str(seed), "val_accuracy": "0.5"}).save(path)
    return path


def test_files_side_by_side(call: Call, tmp_path: Path) -> None:
    files = [some(tmp_path / f"{seed}.safetensors", seed) for seed in range(2)]
    table = call("tickets", *files)
    assert table.exit_code == 0, table.output
    for word in ("0.safetensors", "sparsity %", "val_accuracy", "overlap", "distance"):
        assert word in table.stdout
    rows = json.loads(call("tickets", *files, "--json").stdout)
    assert [row["meta"]["step"] for row in rows] == ["0", "1"]
    assert rows[0]["overlap"][0] == 1.0
    assert rows[0]["overlap"][1] == rows[1]["overlap"][0] < 0.3
    assert rows[0]["distance"][1] > rows[0]["distance"][0] == 0.0
    assert "overlap" not in call("tickets", files[0]).stdout


def test_what_holds_no_tickets_is_refused(call: Call, tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no run")):
        found = call("tickets", path)
        assert found.exit_code == 2
        assert message in found.stderr
