"""regrow plan: its tables, its numbers for programs, its flags, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from cli.conftest import Call
from regrow.cli.app import app
from regrow.cli.plan import duration
from regrow.lab.plan import calibrate

RECIPE = "demo/freetickets"


def test_the_flags_are_these() -> None:
    """Adding one is a decision: change this list with it."""
    command = typer.main.get_command(app).commands["plan"]  # type: ignore[attr-defined]
    flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
    ours = {"--set", "--target-rs", "--budget", "--minutes", "--no-calibration", "--json"}
    assert flags - {"--help"} == ours | {"--debug"}


def test_all_of_it(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "BUDGET", 0.3)
    done = call("plan", RECIPE, "--set", "model.hidden=[64, 64]", "--budget", "0.18x-dense", "--minutes", "600")
    assert done.exit_code == 0, done.output
    for word in (
        "3 sparse layers exist at first",
        "fc1.weight",
        "R_s is an estimate: growth by gradient",
        "rests on rigl-itop at 90%, MLP",
        "of 3 tickets together",
        "ms/update",
        "Seconds of one seed",
        "after epoch",
        "--set plan.tickets=",
        "--set density=",
    ):
        assert word in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is begun"


def test_numbers_for_programs(call: Call) -> None:
    done = call("plan", "itop/imagenet-resnet50-rigl", "--no-calibration", "--json", "--target-rs", "0.9")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["parameters"] == 25_557_032
    assert len(found["layers"]) == 54
    assert found["flops"]["training_ratio"] == pytest.approx(0.242, abs=0.001)
    assert [cost["backend"] for cost in found["costs"]] == ["dense", "masked", "sparse"]
    assert all(cost["speed"] is None for cost in found["costs"])
    assert found["explored"]["kind"] == "estimate"
    assert found["explored"]["runs"][0]["source"].startswith("reported by")
    assert {row["knob"] for row in found["proposals"]} == {"update interval", "density", "length"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["smoke/digit"], "did you mean 'smoke/digits'?"),
        ([RECIPE, "--set", "epoch=3"], "unknown key `epoch`"),
        ([RECIPE, "--set", "model=mpl"], "did you mean 'mlp'?"),
        ([RECIPE, "--set", "data=digit"], "did you mean 'digits'?"),
        ([RECIPE, "--set", "data=folder:absent"], "absent"),
        ([RECIPE, "--set", "topology={name: erk, powr: 2}"], "powr"),
        ([RECIPE, "--set", "density=1e-7"], "raise the density"),
        ([RECIPE, "--set", "batch_size=9999"], "batch size 9999"),
        ([RECIPE, "--set", "plan=null", "--set", "epochs=1", "--set", "method.every.interval=999"], "no update would"),
        ([RECIPE, "--set", "exclude=['*']"], "no sparse site"),
        ([RECIPE, "--budget", "half"], "--budget half: should be a share of dense training, such as 0.6x-dense"),
        ([RECIPE, "--budget", "-1x-dense"], "--budget -1: should be above 0"),
        ([RECIPE, "--target-rs", "2"], "--target-rs 2: should be between 0 and 1"),
        (["demo/static", "--target-rs", "0.9", "--no-calibration"], "static grows nothing"),
        ([RECIPE, "--minutes", "5", "--no-calibration"], "leave out --no-calibration"),
    ],
)
def test_refusals(call: Call, words: list[str], said: str) -> None:
    refusal = call("plan", "--no-calibration", *words)
    assert refusal.exit_code == 2, refusal.output
    assert refusal.stdout == ""
    assert refusal.stderr.count("\n") == 1, "one paragraph"
    assert said in refusal.stderr


def test_durations() -> None:
    assert [duration(s) for s in (None, 90.0, 600.0, 10_000.0, 1e6)] == ["-", "90 s", "10 min", "2.78 h", "11.6 days"]
