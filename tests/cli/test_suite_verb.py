"""regrow suite and regrow results, as they are called."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import Result

from regrow.cli.suite_progress import told, watched
from regrow.lab import engines
from regrow.lab.engines import Outcome, Task, base
from regrow.lab.suite import Course
from regrow.recipe.suite import load

TEXT = """
name: mini
base:
  {data: {name: digits, augment: false}, model: {name: mlp, hidden: [8]}, optimizer: {name: sgd, lr: 0.1}, epochs: 1,
   batch_size: 64}
cases:
  dense: {}
  sparse: {method: static, density: 0.5}
absent: {"another method": not built}
"""


class Here:
    """An engine in this process."""

    def __init__(self, workers: int, jobs: Path) -> None: ...

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in tasks:
            yield task, base.work(task)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.ENGINES, "local", Here)


def test_foretold_run_again_and_in_the_ledger(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(TEXT)
    dry = call("suite", "mini.yaml", "--dry-run")
    assert dry.exit_code == 0
    assert "2 runs, 2 of them to do: 2 epochs." in dry.stdout
    assert "absent: another method: not built" in dry.stdout
    assert not (tmp_path / "runs").exists()

    first = call("suite", "mini.yaml", "--ledger")
    assert first.exit_code == 0, first.stderr
    assert "1/2  dense, seed 0: test" in first.stderr
    assert "runs/min" in first.stderr
    assert "sparse" in first.stdout
    state = json.loads(next(tmp_path.glob("runs/suites/mini-*/suite.json")).read_text())
    assert [run["state"] for run in state["runs"]] == ["finished"] * 2

    again = call("suite", "mini.yaml")
    assert again.exit_code == 0
    assert "1/2" not in again.stderr

    page = call("results")
    assert page.exit_code == 0
    assert "suites measured: 1, tables reported: 0" in page.stdout
    assert "### Measured: mini" in (tmp_path / "docs" / "results.md").read_text()


def test_what_failed_is_listed_and_told_by_the_exit_code(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(TEXT.replace("sparse: {", "sparse: {optimizer.lr: 1.0e+30, "))
    done = call("suite", "mini.yaml")
    assert done.exit_code == 1
    assert "1/2  dense, seed 0: test" in done.stderr
    assert "FAILED: the loss is" in done.stderr
    assert "1 failed:" in done.stderr
    assert "seed_0: the loss is" in done.stderr


def test_refusals(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(TEXT.replace("method: static", "method.nmae: static"))
    typo = call("suite", "mini.yaml")
    assert typo.exit_code == 2
    assert "method.nmae" in typo.stderr
    assert not (tmp_path / "runs").exists()
    assert "did you mean 'local'" in call("suite", "mini.yaml", "--engine", "locl").stderr
    assert "--ledger" in call("results").stderr


def test_how_values_are_told() -> None:
    assert told({"case": "dense", "optimizer.lr": 0.1, "seed": 3}) == "dense, lr 0.1, seed 3"
    assert told({"optimizer.name": "sgd", "method.name": "set"}) == "optimizer.name sgd, method.name set"


def test_the_live_table(tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(TEXT)
    course = Course.of(load(tmp_path / "mini.yaml"), tmp_path / "runs")
    console = Console(force_terminal=True, width=100, record=True)
    with watched(course, console) as tell:
        course.failures[course.entries[0].folder] = "broken"
        course.ended.append(course.entries[0])
        tell(course.entries[0], "broken")
    shown = console.export_text()
    assert "FAILED: broken" in shown
    assert "1/2 runs, 1 failed" in shown
