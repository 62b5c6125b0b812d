"""--log: the rows of metrics.jsonl go to trackers too, here to stand-ins for those that are not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cli.conftest import Call
from regrow.train.paths import RunFolder
from regrow.train.record import read_json, rows

Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


class Noted:
    """Anything of a tracker: notes every call, and is its own answer."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.calls.append((name, args, more))
            return self.answers(name, *args)

        return call

    def answers(self, name: str, *args: Any) -> Any:
        if name == "search_runs":
            known = any(call[0] == "start_run" and "tags" in call[2] for call in self.calls)
            return [SimpleNamespace(info=SimpleNamespace(run_id="r1"))] if known else []
        return SimpleNamespace(experiment_id="e1") if name == "set_experiment" else self


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Calls]:
    """Stand-ins for all of them: library -> the calls it got."""
    found: dict[str, Calls] = {"wandb": [], "trackio": [], "mlflow": [], "tensorboard": []}
    for name, calls in found.items():
        monkeypatch.setitem(sys.modules, name, Noted(calls))
    board, calls = ModuleType("torch.utils.tensorboard"), found["tensorboard"]
    board.SummaryWriter = lambda *args, **more: Noted(calls).SummaryWriter(*args, **more)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    return found


def named(calls: Calls, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    return [(args, more) for called, args, more in calls if called == name]


def test_every_row_goes_to_every_tracker(call: Call, trackers: dict[str, Calls]) -> None:
    words = [word for name in trackers for word in ("--log", name)]
    done = call("run", "smoke/digits", *words)
    assert done.exit_code == 0, done.output
    folder = RunFolder(next(Path("runs").glob("*/seed_0")))
    written, result = rows(folder), read_json(folder.result)
    assert [row["step"] for row in written] == [20, 40]
    name = f"{folder.path.parent.name}-seed_0"
    for tracker, verb in (("wandb", "log"), ("trackio", "log"), ("mlflow", "log_metrics")):
        logged = named(trackers[tracker], verb)
        assert [more["step"] for _, more in logged] == [20, 40, 40]
        assert logged[0][0][0]["val_accuracy"] == written[0]["val_accuracy"]
        assert logged[1][0][0]["exploration_rate"] == written[1]["exploration_rate"]
        assert logged[2][0][0]["test_accuracy"] == result["test_accuracy"]
    begun = named(trackers["wandb"], "init")[0][1]
    assert (begun["project"], begun["id"], begun["resume"]) == ("regrow", name, "allow")
    assert begun["config"]["method"]["name"] == "rigl"
    assert named(trackers["trackio"], "init")[0][1]["name"] == name
    assert named(trackers["mlflow"], "start_run")[0][1] == {"run_name": name, "tags": {"regrow": name}}
    scalars = {(args[0], args[2]): args[1] for args, _ in named(trackers["tensorboard"], "add_scalar")}
    assert scalars["val_accuracy", 20] == written[0]["val_accuracy"]
    assert scalars["test_accuracy", 40] == result["test_accuracy"]
    for tracker, verb in (("wandb", "finish"), ("trackio", "finish"), ("mlflow", "end_run"), ("tensorboard", "close")):
        assert len(named(trackers[tracker], verb)) == 1


def test_a_resumed_run_goes_on_in_the_same_one(call: Call, trackers: dict[str, Calls]) -> None:
    call("run", "smoke/digits", "--log", "mlflow", "--log", "tensorboard")
    folder = RunFolder(next(Path("runs").glob("*/seed_0")))
    folder.result.unlink()
    folder.checkpoint.unlink()
    for calls in trackers.values():
        calls[:] = [one for one in calls if one[0] == "start_run"]
    done = call("resume", folder.path, "--log", "mlflow", "--log", "tensorboard")
    assert done.exit_code == 0, done.output
    assert named(trackers["mlflow"], "start_run")[1:] == [((), {"run_id": "r1"})]
    (where,), more = named(trackers["tensorboard"], "SummaryWriter")[0]
    assert Path(where) == folder.path / "tensorboard"
    assert more == {"purge_step": 20}


def test_nothing_is_logged_unasked(call: Call, trackers: dict[str, Calls]) -> None:
    assert call("run", "smoke/digits", "--set", "epochs=1").exit_code == 0
    assert not any(trackers.values())


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_missing_tracker_says_how_to_get_it(call: Call, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    done = call("run", "smoke/digits", "--log", name)
    assert done.exit_code == 2
    assert f"--log {name} needs {name}: pip install {name}" in " ".join(done.stderr.split())


def test_an_unknown_tracker(call: Call) -> None:
    done = call("run", "smoke/digits", "--log", "tensorbord")
    assert done.exit_code == 2
    assert "unknown tracker 'tensorbord'; did you mean 'tensorboard'?" in " ".join(done.stderr.split())
