"""Runs on plans, as a person sees them."""

from __future__ import annotations

import json

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
