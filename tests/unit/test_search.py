"""Search for hyper-parameters: resumed where it was, judged on validation only; and suites on Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from regrow.core.errors import RegrowError
from regrow.lab.engines import ENGINES, Outcome, Task, base
from regrow.lab.search import best
from regrow.lab.suite import Course, Workplace, run
from regrow.recipe.suite import load
from regrow.train.record import read_json

TEXT = """
name: lr
base:
  data: {name: digits, augment: false}
  model: {name: mlp, hidden: [8]}
  optimizer: {name: sgd, lr: 0.1}
  epochs: 1
  batch_size: 128
  method: {name: set-itop, every: {interval: 2}}
  density: 0.5
search:
  trials: 5
  over:
    optimizer.lr: {low: 0.01, high: 1.0, log: true}
    method.every.interval: {low: 2, high: 6, step: 2}
    method.name: [set, rigl]
    schedule: [constant, {name: cosine, floor: 0.1}]
"""


class Here:
    """An engine in this process; `stop` runs and then no more."""

    def __init__(self, stop: int | None = None) -> None:
        self.trained: list[Path] = []
        self.stop = stop

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in tasks:
            if self.stop is not None and len(self.trained) >= self.stop:
                raise KeyboardInterrupt
            self.trained.append(task.folder.path)
            yield task, base.work(task)


def course(folder: Path, text: str = TEXT) -> Course:
    folder.mkdir(exist_ok=True)
    (folder / "lr.yaml").write_text(text)
    return Course.of(load(folder / "lr.yaml"), folder / "runs")


def tried(course: Course) -> list[dict[str, Any]]:
    return [one["values"] for one in read_json(course.folder.suite)["runs"]]


def test_interrupted_and_taken_up_it_tries_what_it_would_have_tried(tmp_path: Path) -> None:
    whole, first, then = Here(), Here(stop=2), Here()
    run(course(tmp_path / "a"), Workplace(whole, 1, 1))
    with pytest.raises(KeyboardInterrupt):
        run(course(tmp_path / "b"), Workplace(first, 1, 1))
    run(course(tmp_path / "b"), Workplace(then, 1, 1))
    in_one, in_two = course(tmp_path / "a"), course(tmp_path / "b")
    assert tried(in_one) == tried(in_two)
    assert len(tried(in_one)) == 5
    assert len(first.trained) == 2
    assert len(first.trained) + len(then.trained) == len(whole.trained)
    assert best(in_one, in_one.expanded.searches[0]) == best(in_two, in_two.expanded.searches[0])

    extended = course(tmp_path / "b", TEXT.replace("trials: 5", "trials: 6"))
    run(extended, Workplace(Here(), 1, 1))
    assert tried(extended)[:5] == tried(in_one)


def test_the_best_is_best_on_validation_as_a_mean_over_seeds(tmp_path: Path) -> None:
    ours = course(tmp_path, TEXT.replace("search:", "seeds: [0, 1]\nsearch:\n  objective: val_loss"))
    run(ours, Workplace(Here(), 4, 1))
    assert len(ours.entries) == 10
    losses: dict[str, list[float]] = {}
    for entry in ours.entries:
        losses.setdefault(str(entry.cell), []).append(read_json(ours.run_of(entry).result)["val_loss"])
    found = best(ours, ours.expanded.searches[0])
    assert found is not None
    assert found[1] == pytest.approx(min(sum(pair) / 2 for pair in losses.values()))
    for values in tried(ours):
        assert 0.01 <= values["optimizer.lr"] <= 1.0
        assert values["method.every.interval"] in (2, 4, 6)


def test_a_trial_that_fails_is_named_and_not_tried_again(tmp_path: Path) -> None:
    text = TEXT.replace("{low: 0.01, high: 1.0, log: true}", "[1.0e+30, 2.0e+30]").replace("trials: 5", "trials: 1")
    ours = course(tmp_path, text)
    run(ours, Workplace(Here(), 1, 1))
    assert "the loss is" in next(iter(ours.failures.values()))
    assert best(ours, ours.expanded.searches[0]) is None
    again, engine = course(tmp_path, text), Here()
    run(again, Workplace(engine, 1, 1))
    assert not engine.trained
    assert read_json(again.folder.suite)["runs"][0]["state"] == "failed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("trials: 5", "trials: 5\n  objective: test_accuracy"), "`search.objective`.*the test split decides nothing"),
        (("low: 0.01", "lowe: 0.01"), "`search.over.optimizer.lr.lowe`.*'low'"),
        (("low: 0.01", "low: 2.0"), "low should be below high"),
        (("high: 1.0, log", "high: 1.0, step: 0.1, log"), "no step"),
        (("[set, rigl]", "[set, rigle]"), "'rigle'.*'rigl'"),
        (("[set, rigl]", "5"), "`search.over.method.name` is 5"),
        (("augment: false", "validation: 0.0"), "no validation split"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(RegrowError, match=f"(?s){says}"):
        course(tmp_path, TEXT.replace(*change))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_local_ray_cluster_gives_the_same_hashes_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    text = TEXT[: TEXT.index("search:")] + "seeds: [0, 1]\nvary: {density: [0.5, 0.25], optimizer.lr: [0.1, 1.0e+30]}\n"
    here, there = course(tmp_path / "here", text), course(tmp_path / "there", text)
    run(here, Workplace(Here(), 1, 1))
    run(there, Workplace(ENGINES["ray"](2, tmp_path), 2, 1))
    assert here.expanded.hash8 == there.expanded.hash8
    assert len(here.failures) == 4
    assert here.failures.keys() == there.failures.keys()
    assert read_json(here.folder.suite)["runs"][0] == read_json(there.folder.suite)["runs"][0]
    for entry in here.entries:
        if entry.folder not in here.failures:
            ours, theirs = (read_json(place.run_of(entry).result) for place in (here, there))
            assert {k: v for k, v in ours.items() if "seconds" not in k} == {
                k: v for k, v in theirs.items() if "seconds" not in k
            }
