"""regrow evaluate: runs, tickets, both together; bad input is one paragraph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Call
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.tickets import Ticket
from regrow.train.paths import RunFolder
from regrow.train.state import restore


def finished(call: Call, *words: str) -> RunFolder:
    done = call("run", "smoke/digits", *words)
    assert done.exit_code == 0, done.output
    (path,) = Path("runs").glob("*/seed_0")
    return RunFolder(path)


def ticket_of(run: RunFolder) -> Ticket:
    recipe = load(run.recipe)
    job = job_of(recipe, recipe.seeds[0])
    restore(job, run)
    assert job.sparsifier is not None
    return Ticket.of(job.model, job.sparsifier)


def systems(record: dict[str, Any]) -> list[str]:
    return list(record["systems"])


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_a_run_is_evaluated_and_its_numbers_kept(call: Call, backend: str) -> None:
    run = finished(call, "--set", f"backend={backend}")
    shown = call("evaluate", "runs", "--ood", "noise", "--adversarial")
    assert shown.exit_code == 0, shown.output
    for word in (
        "last",
        "NLL",
        "Brier",
        "ECE at T",
        "AUROC of other data",
        "noise H",
        "FGSM %",
        "PGD %",
        "360 samples of test",
    ):
        assert word in shown.stdout
    record = json.loads(run.evaluation.read_text())
    result = json.loads(run.result.read_text())
    last = record["systems"]["last"]
    assert last["accuracy"] == pytest.approx(result["test_accuracy"], abs=1e-9)
    assert last["nll"] == pytest.approx(result["test_loss"], abs=1e-5)
    assert set(last["ood"]) == {"noise"}
    [again] = json.loads(call("evaluate", run.path, "--json").stdout)
    assert again["systems"]["last"]["nll"] == last["nll"]
    assert json.loads(call("evaluate", run.path, "--json", "--split", "val").stdout)[0]["split"] == "val"


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_tickets_of_a_run_make_an_ensemble(call: Call, backend: str) -> None:
    run = finished(call, "--set", f"backend={backend}")
    ticket = ticket_of(run)
    for path in (run.ticket(0), run.ticket(1), run.superposed):
        ticket.save(path)
    [record] = json.loads(call("evaluate", "runs", "--json").stdout)
    assert systems(record) == ["member 0", "member 1", "superposed", "ensemble", "weighted"]
    assert record["diversity"]["overlap"] == 1
    assert record["diversity"]["disagreement"] == 0
    values = {found["accuracy"] for found in record["systems"].values()}
    assert values == {json.loads(run.result.read_text())["test_accuracy"]}  # equal tickets are one
    [pair] = json.loads(call("evaluate", run.ticket(0), run.superposed, "--json").stdout)
    assert systems(pair) == ["member 0", "member 1", "ensemble", "weighted"]
    assert pair["runs"] == ["seed_0/tickets/0.safetensors", "seed_0/tickets/superposed.safetensors"]
    assert "Two members disagree on 0.00 %, KL 0.0000, masks overlap by 1.000." in call("evaluate", "runs").stdout


def test_runs_together_are_an_ensemble(call: Call) -> None:
    assert call("run", "smoke/digits", "--seeds", "0,1").exit_code == 0
    apart = json.loads(call("evaluate", "runs", "--json").stdout)
    assert [systems(record) for record in apart] == [["last"], ["last"]]
    [record] = json.loads(call("evaluate", "runs", "--together", "--json").stdout)
    assert systems(record) == ["member 0", "member 1", "ensemble", "weighted"]
    assert record["systems"]["member 1"]["nll"] == apart[1]["systems"]["last"]["nll"]
    assert 0 < record["diversity"]["overlap"] < 1
    assert record["subject"].endswith("seed_0 and 1 more")
    (folder,) = Path("runs").iterdir()
    (kept,) = folder.glob("evaluation-*.json")
    assert json.loads(kept.read_text()) == record
    assert record["runs"] == ["seed_0", "seed_1"]
    alone = call("evaluate", folder / "seed_1", "--together")
    assert alone.exit_code == 0
    assert [*folder.glob("evaluation-*.json")] == [kept]


def test_a_plan_leaves_an_ensemble_and_its_result_says_the_same(call: Call) -> None:
    plan = ["--set", "epochs=null", "--set", "plan={name: edst, explore: 1, refine: [1], tickets: 2}"]
    run = finished(call, *plan)
    [record] = json.loads(call("evaluate", "runs", "--json").stdout)
    result = json.loads(run.result.read_text())
    for name, told in (("member 0", result["tickets"][0]), ("ensemble", result["ensemble"])):
        for key in ("accuracy", "nll", "ece"):
            assert record["systems"][name][key] == pytest.approx(told[f"test_{key}"], abs=1e-6)


def test_models_of_several_members_are_taken_apart(call: Call) -> None:
    run = finished(call, "--set", "method=null", "--set", "density=null", "--set", "model.name=mimo")
    [record] = json.loads(call("evaluate", "runs", "--json").stdout)
    assert systems(record) == ["member 0", "member 1", "member 2", "ensemble", "weighted"]
    told = json.loads(run.result.read_text())
    assert record["systems"]["ensemble"]["accuracy"] == told["test_accuracy"]
    assert record["diversity"]["disagreement"] > 0
    assert record["diversity"]["overlap"] is None


def test_passes_with_dropout_are_members(call: Call) -> None:
    dense = ["--set", "method=null", "--set", "density=null"]
    run = finished(call, *dense, "--set", "model.dropout=0.3")
    [record] = json.loads(call("evaluate", "runs", "--passes", "2", "--json").stdout)
    assert systems(record) == ["member 0", "member 1", "ensemble", "weighted"]
    assert record["diversity"]["disagreement"] > 0
    [again] = json.loads(call("evaluate", "runs", "--passes", "2", "--json").stdout)
    assert again == record
    refusal = call("evaluate", run.path, "--passes", "2", "--adversarial")
    assert refusal.exit_code == 2
    assert "MC-dropout" in refusal.stderr


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_analyses_look_into_every_network(call: Call, backend: str) -> None:
    run = finished(call, "--set", f"backend={backend}")
    ticket_of(run).save(run.ticket(0))
    shown = call("evaluate", "runs", "--analyses")
    assert shown.exit_code == 0, shown.output
    for word in ("top eigenvalue of the Hessian", "trace", "units of", "dead %", "gradient of", "fc1.weight"):
        assert word in shown.stdout
    [analysis] = json.loads(run.evaluation.read_text())["analyses"].values()
    assert analysis["samples"] == 1000
    assert len(analysis["gradients"]) == len(ticket_of(run).state)
    assert analysis["landscape"]["line"][10] == analysis["landscape"]["plane"][5][5] == analysis["loss"]
    assert 0 < analysis["curvature"]["top_eigenvalue"] < analysis["curvature"]["trace"] * 2
    assert all(0 <= row["dead"] <= 1 for row in analysis["activities"])


def test_bad_input_is_one_paragraph(call: Call, tmp_path: Path) -> None:
    run = finished(call)
    ticket_of(run).save(tmp_path / "elsewhere" / "0.safetensors")
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, said in (
        ([empty], "holds no run"),
        ([run.path, "--ood", "minst"], "did you mean 'mnist'?"),
        ([run.path, "--ood", "cifar10", "--data-root", empty], "cifar-10"),
        ([run.path, "--split", "tset"], "did you mean 'test'?"),
        ([run.ticket(7)], "Check the path"),
        ([tmp_path / "elsewhere" / "0.safetensors"], "holds no recipe.yaml"),
    ):
        refusal = call("evaluate", *words)
        assert refusal.exit_code == 2, refusal.output
        assert said in refusal.stderr
        assert refusal.stderr.splitlines()[-1].startswith("regrow: ")
    run.result.unlink()
    refusal = call("evaluate", run.path)
    assert refusal.exit_code == 2
    assert f"Go on with: regrow resume {run.path}" in refusal.stderr


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **keywords: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("regrow.train.data.fetch.urlopen", unreachable)
