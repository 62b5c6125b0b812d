"""FSDP2 on two gloo processes: dynamic topology on sharded rows, the same as unsharded, layer by layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

Seen = dict[str, Any]
METHODS, KINDS = ("set", "rigl", "rigl-itop", "granet"), ("sgd-momentum", "adamw")
CASES = [
    *(f"{method} {kind} 1 plain" for method in METHODS for kind in KINDS),
    *(f"rigl-itop sgd-momentum {how}" for how in ("3 plain", "1 clip", "1 skip", "1 skip-zeroed", "3 skip-zeroed")),
]
"""Method, optimizer, micro-batches, and how: with clipping; with a step that GradScaler skips."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seen, Seen]:
    """What each of two ranks noted."""
    root = tmp_path_factory.mktemp("fsdp")
    child = Path(__file__).with_name("fsdp_child.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(child)]
    done = subprocess.run(
        [*launcher, str(root)], capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((root / "rank0.json").read_text()), json.loads((root / "rank1.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_sharded_is_unsharded(ranks: tuple[Seen, Seen], case: str) -> None:
    for seen in ranks:
        sharded, unsharded = seen[case]
        assert sharded["topology"] == unsharded["topology"]
        assert sharded["explored"] == unsharded["explored"]
        for name, weight in unsharded["weights"].items():
            assert torch.allclose(torch.tensor(sharded["weights"][name]), torch.tensor(weight), rtol=1e-6, atol=1e-9)
            assert sharded["ticket"][name] == sharded["weights"][name]


@pytest.mark.parametrize("case", CASES)
def test_both_ranks_hold_half(ranks: tuple[Seen, Seen], case: str) -> None:
    halves = [seen[case][0]["held"] for seen in ranks]
    assert sum(halves) == ranks[0][case][1]["held"]
    assert max(halves) < 0.6 * sum(halves)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("snfs", "keeps a dense momentum of every weight, which FSDP2 does not shard; take 'rigl' or 'set'"),
        ("snip", "scores whole weights, but '1.weight' is sharded: score the model before fully_shard"),
        ("sparse", "backend='sparse' trains in one process"),
    ],
)
def test_what_cannot_be_sharded_is_refused(ranks: tuple[Seen, Seen], what: str, message: str) -> None:
    assert all(message in seen[what] for seen in ranks)
