"""Suites: what a file comes to, what is refused, and that the machinery loses and repeats nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from regrow.core.errors import RegrowError
from regrow.lab.engines import ENGINES, Outcome, Task, base
from regrow.lab.engines.local import Local
from regrow.lab.engines.slurm import Slurm
from regrow.lab.suite import Course, Workplace, run
from regrow.recipe.load import find
from regrow.recipe.load import load as load_recipe
from regrow.recipe.suite import Expanded, load
from regrow.train.atomic import claim
from regrow.train.paths import RunFolder
from regrow.train.record import read_json, rows

MINI = """
name: mini
base:
  data: {name: digits, augment: false}
  model: {name: mlp, hidden: [16]}
  optimizer: {name: sgd, lr: 0.1}
  epochs: 2
  batch_size: 64
  method: {name: set-itop, every: {interval: 5}}
  density: 0.5
seeds: [0, 1]
vary:
  density: [0.5, 0.25]
"""


def suite(folder: Path, text: str = MINI) -> Expanded:
    file = folder / "mini.yaml"
    file.write_text(text)
    return load(file)


def table(expanded: Expanded) -> list[dict[str, Any]]:
    return [entry.values for entry in expanded.entries]


def test_cases_times_zip_times_grid_times_seeds(tmp_path: Path) -> None:
    text = (
        MINI
        + """
zip:
  method.name: [set, rigl]
  method.every.interval: [4, 8]
cases:
  short: {epochs: 1}
  long: {}
"""
    )
    found = suite(tmp_path, text)
    assert len(found.entries) == 2 * 2 * 2 * 2
    assert found.entries[0].values == {
        "case": "short", "method.name": "set", "method.every.interval": 4, "density": 0.5, "seed": 0,
    }  # fmt: skip
    assert found.entries[0].recipe.epochs == 1
    pairs = {(entry.values["method.name"], entry.values["method.every.interval"]) for entry in found.entries}
    assert pairs == {("set", 4), ("rigl", 8)}


def test_runs_are_those_of_regrow_run(tmp_path: Path) -> None:
    text = "name: s\nbase: smoke/digits\nvary: {density: [0.1], method.name: [set]}\n"
    recipe = load_recipe("smoke/digits", ["density=0.1", "method.name=set"])
    assert suite(tmp_path, text).entries[0].folder == f"{recipe.folder}/seed_0"


def test_a_base_may_lie_beside_the_suite_and_analyses_have_their_own(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(find("smoke/digits").read_text())
    text = """
name: s
base: own.yaml
set: {epochs: 1}
analyses:
  size: {vary: {density: [0.1, 0.2]}}
  dense: {about: reference, base: smoke/dense, seeds: [3], set: {optimizer.lr: 0.2}}
"""
    found = suite(tmp_path, text)
    assert table(found) == [
        {"analysis": "size", "density": 0.1, "seed": 0},
        {"analysis": "size", "density": 0.2, "seed": 0},
        {"analysis": "dense", "seed": 3},
    ]
    assert [entry.recipe.epochs for entry in found.entries] == [1, 1, 1]
    assert found.entries[2].recipe.optimizer.lr == 0.2


def test_the_hash_is_of_what_is_run(tmp_path: Path) -> None:
    first = suite(tmp_path)
    assert suite(tmp_path, MINI + "about: words\nabsent: {what: why}\n").hash8 == first.hash8
    assert suite(tmp_path, MINI.replace("0.25", "0.2")).hash8 != first.hash8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("  density: [0.5, 0.25]", "  method.every.intervall: [4]"), "`method.every.intervall`.*'interval'"),
        (("  density: [0.5, 0.25]", "  method.dorp: [taylor]"), "dorp=\"taylor\".*'drop'"),
        (("  density: [0.5, 0.25]", "  density: [0.5, 5.0]"), "with density=5.0: `density` is 5.0"),
        (("  density: [0.5, 0.25]", "  model.hiden: [[8]]"), "'hiden'.*'hidden'"),
        (("  density: [0.5, 0.25]", "  data.name: [digist]"), "'digits'"),
        (("  density: [0.5, 0.25]", "  topology: [{name: snip, per_clas: 3}]"), "'per_class'"),
        (("  density: [0.5, 0.25]", "  density.x: [1]"), "'density' holds 0.5"),
        (("  density: [0.5, 0.25]", "  density: []"), "`vary.density` is \\[\\], but.*at least 1"),
        (("vary:", "vari:"), "unknown key `vari`.*'vary'"),
        (("seeds: [0, 1]", "zip: {epochs: [1, 2], batch_size: [32]}"), "epochs has 2, batch_size has 1"),
        (("seeds: [0, 1]", "analyses: {a: {vry: {}}}"), "`analyses.a.vry`.*'vary'"),
        (("seeds: [0, 1]", "analyses: {a: {}}"), "has `analyses`, and"),
        (("seeds: [0, 1]", "search: {trials: 2, over: {density: [0.1]}}"), "an analysis of its own"),
    ],
)
def test_a_typo_deep_inside_is_named_before_anything_runs(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(RegrowError, match=f"(?s)mini.yaml.*{says}"):
        suite(tmp_path, MINI.replace(*change))


def test_no_such_suite_and_no_base(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match="no such suite"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(RegrowError, match="`base` is missing"):
        suite(tmp_path, "name: s\nvary: {density: [0.1]}\n")
    with pytest.raises(RegrowError, match="holds list"):
        suite(tmp_path, "[1]")


class Here:
    """An engine for tests: in this process, `stop` runs and then no more."""

    def __init__(self, stop: int | None = None) -> None:
        self.trained: list[Path] = []
        self.stop = stop

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if self.stop is not None and len(self.trained) >= self.stop:
                raise KeyboardInterrupt
            self.trained.append(task.folder.path)
            yield task, base.work(task)


def course(folder: Path, text: str = MINI) -> Course:
    return Course.of(suite(folder, text), folder / "runs")


def states(course: Course) -> list[str]:
    return [one["state"] for one in read_json(course.folder.suite)["runs"]]


def test_stopped_and_taken_up_no_run_is_repeated_and_none_lost(tmp_path: Path) -> None:
    first, then = Here(stop=3), Here()
    with pytest.raises(KeyboardInterrupt):
        run(course(tmp_path), Workplace(first, 1, 1))
    again = course(tmp_path)
    assert states(again) == ["finished"] * 3 + ["pending"]
    run(again, Workplace(then, 1, 1))
    assert states(again) == ["finished"] * 4
    assert len(set(first.trained + then.trained)) == len(first.trained + then.trained) == 4
    content = read_json(again.folder.suite)
    assert content.keys() == {"name", "hash", "source", "runs"}
    assert content["source"]["vary"] == {"density": [0.5, 0.25]}
    assert again.folder.path.name == f"mini-{content['hash']}"
    for one in content["runs"]:
        assert read_json(tmp_path / "runs" / one["folder"] / "result.json")["seed"] == one["values"]["seed"]


def test_one_that_fails_is_named_and_stops_nothing(tmp_path: Path) -> None:
    broken = MINI.replace("  density: [0.5, 0.25]", "  optimizer.lr: [0.1, 1.0e+30, 0.05]")
    ours = course(tmp_path, broken)
    run(ours, Workplace(Here(), 1, 1))
    assert states(ours) == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
    assert all("the loss is" in why for why in ours.failures.values())
    assert "the loss is" in read_json(ours.folder.suite)["runs"][2]["error"]


def test_an_unexpected_error_fails_its_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(base, "fit", no_memory)
    ours = course(tmp_path)
    run(ours, Workplace(Here(), 1, 1))
    assert set(ours.failures.values()) == {next(iter(ours.failures.values()))}
    assert "MemoryError: none left (test_suite.py" in next(iter(ours.failures.values()))


def test_a_run_of_several_analyses_is_trained_once(tmp_path: Path) -> None:
    text = MINI.replace("vary:\n  density: [0.5, 0.25]", "analyses:\n  a: {vary: {density: [0.5]}}\n  b: {seeds: [0]}")
    engine = Here()
    ours = course(tmp_path, text)
    run(ours, Workplace(engine, 1, 1))
    assert len(engine.trained) == 2
    assert states(ours) == ["finished"] * 3
    assert ours.remaining == 0


def outcomes(course: Course) -> dict[str, Any]:
    """Everything a run has come to, times apart."""
    found = {}
    for entry in course.entries:
        result = read_json(course.run_of(entry).result)
        found[entry.folder] = {key: value for key, value in result.items() if "seconds" not in key}
    return found


def test_local_processes_make_the_same_runs(tmp_path: Path, children: None) -> None:
    there = course(tmp_path)
    run(there, Workplace(Local(2, tmp_path), 2, 1))
    assert not there.failures
    (tmp_path / "here").mkdir()
    here = course(tmp_path / "here")
    run(here, Workplace(Here(), 1, 1))
    assert outcomes(here) == outcomes(there)
    assert [read_json(there.run_of(entry).environment)["threads"] for entry in there.entries] == [1] * 4


def test_a_worker_that_dies_takes_its_run_with_it_only(tmp_path: Path, children: None) -> None:
    text = MINI.replace("vary:\n  density: [0.5, 0.25]", "cases:\n  a: {}\n  b: {epochs: 100000}\n  c: {epochs: 1}")
    ours = course(tmp_path, text.replace("[0, 1]", "[0]"))

    def kill() -> None:
        while not rows(ours.run_of(ours.entries[1])):
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run(ours, Workplace(Local(1, tmp_path), 1, 1))
    killer.join()
    assert states(ours) == ["finished", "failed", "finished"]
    assert "ended with code" in next(iter(ours.failures.values()))


@pytest.mark.filterwarnings("ignore:.*not bit for bit")  # somebody commits meanwhile
def test_killed_in_the_middle_and_taken_up(tmp_path: Path, children: None) -> None:
    """kill -9 of the suite: its workers end with it, finished runs stay as they are, the others go on."""
    text = MINI.replace("vary:\n  density: [0.5, 0.25]", "vary: {epochs: [1, 60]}")
    ours = course(tmp_path, text)
    short, long = ([ours.run_of(entry) for entry in half] for half in (ours.entries[:2], ours.entries[2:]))
    process = multiprocessing.get_context("forkserver").Process(target=_suite, args=(tmp_path,))
    process.start()
    while process.is_alive() and not (short[0].finished and short[1].finished and len(rows(long[0])) > 2):
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    before = [folder.result.stat().st_mtime_ns for folder in short]
    assert not any(folder.finished for folder in long)
    _wait_for_the_workers(long)
    reached = len(rows(long[0]))
    assert 2 < reached < 60

    again, then = course(tmp_path, text), Here()
    run(again, Workplace(then, 1, 1))
    assert not again.failures
    assert states(again) == ["finished"] * 4
    assert then.trained == [folder.path for folder in long]
    assert [folder.result.stat().st_mtime_ns for folder in short] == before
    assert all([row["epoch"] for row in rows(folder)] == list(range(1, 61)) for folder in long)


def _wait_for_the_workers(folders: list[RunFolder]) -> None:
    """They notice within moments that their parent is gone, and let go of their runs."""
    for folder in folders:
        for _ in range(1000):
            try:
                with claim(folder.path):
                    break
            except RegrowError:
                time.sleep(0.01)


def _suite(folder: Path) -> None:
    ours = Course.of(load(folder / "mini.yaml"), folder / "runs")
    run(ours, Workplace(Local(2, folder), 2, 1))


def test_slurm_through_submitit_as_local_jobs(tmp_path: Path) -> None:
    ours = course(tmp_path, MINI.replace("[0, 1]", "[0]").replace("[0.5, 0.25]", "[0.5, 1.0e-9]"))
    run(ours, Workplace(Slurm(2, tmp_path / "jobs", cluster="local"), 2, 1))
    assert states(ours) == ["finished", "failed"]
    assert list((tmp_path / "jobs").iterdir())


def test_without_slurm_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match="--engine local"):
        run(course(tmp_path), Workplace(ENGINES["slurm"](2, tmp_path), 2, 1))


def test_torchrun_and_a_second_call_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = course(tmp_path)
    with claim(ours.folder.path), pytest.raises(RegrowError, match="another process"):
        run(ours, Workplace(Here(), 1, 1))
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(RegrowError, match="torchrun"):
        run(ours, Workplace(Here(), 1, 1))


def test_a_changed_run_folder_is_refused_by_name(tmp_path: Path) -> None:
    ours = course(tmp_path)
    run(ours, Workplace(Here(), 1, 1))
    folder = ours.run_of(ours.entries[0])
    folder.result.unlink()
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs: 2", "epochs: 3"))
    with pytest.raises(RegrowError, match="it was changed"):
        run(course(tmp_path), Workplace(Here(), 1, 1))
    assert json.loads(ours.folder.suite.read_text())["name"] == "mini"
