"""Runs on plans, as a person sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Call

SMALL = ["--set", "model.hidden=[32]", "--set", "batch_size=256", "--set", "method.every.interval=2"]
EDST = ["run", "demo/freetickets", *SMALL, "--set", "plan.explore=1", "--set", "plan.refine=[1, 1]"]
SUP = ["run", "demo/sup-tickets", *SMALL, "--set", "plan.train=2", "--set", "plan.cycle=1"]


def test_an_ensemble_and_an_average_have_rows_of_their_own(call: Call) -> None:
    assert "3 together" in call(*EDST).stdout
    shown = call(*SUP)
    assert "3 together" in shown.stdout
    assert "3 averaged" in shown.stdout
    rows = {row["tickets"]: row for row in json.loads(call("compare", "runs", "--json").stdout)[2:]}
    run, together, averaged = rows[""], rows["3 together"], rows["3 averaged"]
    assert together["nnz"] == 3 * averaged["nnz"] == 3 * run["nnz"]
    assert (
        together["inference_flops_ratio"] == 3 * averaged["inference_flops_ratio"] == 3 * run["inference_flops_ratio"]
    )
    assert averaged["density"] == run["density"]
    (folder,) = (row["runs"] for row in rows.values() if not row["tickets"])
    words = call("show", f"runs/{folder}/seed_0").stdout
    assert "2.safetensors (last, epoch 5)" in words
    assert "averaged (cia)" in words
    assert all(row["nll"] > 0 and row["ece"] >= 0 for row in rows.values())


def test_one_more_ticket_goes_on_from_the_shorter_run(call: Call) -> None:
    assert call(*EDST, "--set", "plan.tickets=2").exit_code == 0
    more = call(*EDST)
    assert more.exit_code == 0
    assert "goes on where" in " ".join(more.stderr.split())
    assert "epoch 2/7" not in more.stderr
    assert "epoch 7/7" in more.stderr


def test_seeds_in_processes_of_their_own(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members of a DST ensemble, two at a time: the runs they would have been one after another."""
    seeds = ["run", "smoke/digits", "--seeds", "0,1", "--set", "plan={name: itop, epochs: 1}", "--set", "epochs=null"]
    done = call(*seeds, "--jobs", "2")
    assert done.exit_code == 0, done.stderr
    assert all(f"seed {seed}: epoch 1/1" in done.stderr for seed in (0, 1))
    assert call(*seeds, "--runs", "one-by-one").exit_code == 0
    digests = {
        runs: [json.loads(file.read_text())["model_digest"] for file in sorted((tmp_path / runs).rglob("result.json"))]
        for runs in ("runs", "one-by-one")
    }
    assert len({*digests["runs"]}) == 2
    assert digests["runs"] == digests["one-by-one"]
    again = call(*seeds, "--jobs", "2")
    assert again.stdout == done.stdout
    monkeypatch.setenv("RANK", "0")
    assert "use one of them" in " ".join(call(*seeds, "--jobs", "2").stderr.split())


def test_a_refused_recipe_starts_no_process(call: Call, tmp_path: Path) -> None:
    refused = call("run", "smoke/digits", "--jobs", "2", "--set", "model.name=mpl")
    assert refused.exit_code == 2
    assert "did you mean 'mlp'" in " ".join(refused.stderr.split())
    assert not (tmp_path / "runs").exists()
