"""The lab: paired ratios, growth of memory, the ways of training a model, and why one is not faster."""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time

import pytest
import torch
from torch import nn

from regrow.core.errors import RegrowError
from regrow.lab.bench import bench
from regrow.lab.machine import Neighbours, machine
from regrow.lab.memory import Growth, in_child
from regrow.lab.paired import in_turn, ratio
from regrow.lab.reasons import reasons, refused
from regrow.lab.subject import Setting, Subject, Way, memory_of

pytestmark = pytest.mark.usefixtures("children")

SMALL = Setting("lenet300", (1, 8, 8), 16, threads=1)


def test_a_ratio_is_of_rounds_and_its_interval_of_order_statistics() -> None:
    theirs = [1.0 + 0.1 * i for i in range(11)]
    found = ratio([2 * t for t in theirs], theirs)
    assert (found.low, found.median, found.high) == (2, 2, 2)
    spread = ratio([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], [1.0] * 10)
    assert (spread.median, spread.low, spread.high) == (5.5, 2.0, 10.0)


def test_tasks_take_turns_in_alternating_order() -> None:
    order: list[str] = []
    seconds = in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=2, calls=2)
    assert "".join(order) == "aabb" + "bbaa" + "aabb"  # warm-up, then two rounds
    assert [len(rounds) for rounds in seconds] == [2, 2]


@pytest.mark.parametrize(("after", "warning"), [(5.0, ""), (1e9, "BUSY MACHINE"), (None, "")])
def test_a_machine_with_other_work_is_marked(
    monkeypatch: pytest.MonkeyPatch, after: float | None, warning: str
) -> None:
    spent = iter((5.0, after))
    monkeypatch.setattr("regrow.lab.machine._others", lambda: next(spent, after))
    found = Neighbours().warning()
    assert found.startswith(warning) if warning else found == ""


def test_neighbours_are_not_ourselves() -> None:
    neighbours, start = Neighbours(), process_time()
    x = torch.randn(200, 200)
    while process_time() - start < 0.3:
        x @ x
    cores = neighbours.cores
    assert cores is None or 0 <= cores < (os.cpu_count() or 1)
    assert {"date", "cpu", "threads"} <= machine().keys()


def grown() -> tuple[int, int, int, int]:
    growth = Growth()
    held = torch.ones(25_000_000)
    full = growth.now
    del held
    empty, peak = growth.now, growth.peak
    growth.restart()
    return full, empty, peak, growth.peak


def test_growth_sees_what_is_held_and_what_was() -> None:
    full, empty, peak, later = in_child(grown)
    assert 95e6 < full < 110e6
    assert empty < 10e6 < 95e6 < peak
    assert later < 10e6


@pytest.mark.parametrize("way", [Way(), Way(bf16=True), Way("masked", 0.9), Way("sparse", 0.9)], ids=lambda w: w.name)
def test_every_way_takes_steps_and_updates(way: Way) -> None:
    subject = Subject(SMALL, way)
    subject.step()
    before = subject.sparsifier and subject.sparsifier.topology
    subject.step()
    assert (subject.sparsifier and subject.sparsifier.topology) == before  # updates come when they are asked for
    subject.update()
    assert subject.sparsifier is None or subject.sparsifier.topology != before
    assert subject.weights == 64 * 300 + 300 * 100 + 100 * 10 + 410


MINE = """
from torch import nn
def wide(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3000), nn.Linear(3000, 3000), nn.Linear(3000, 10))
"""
WEIGHTS = 64 * 3000 + 3000 * 3000 + 3000 * 10


def test_memory_of_a_model_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    setting = Setting("mine:wide", (1, 8, 8), 8, "static", threads=1)
    sparse, dense = (in_child(memory_of, setting, way) for way in (Way("sparse", 0.95), Way()))
    assert 3 * 4 * WEIGHTS < dense.training < 3.5 * 4 * WEIGHTS  # weights, gradient, momentum
    assert min(sparse.building, dense.building) > 4 * WEIGHTS
    assert sparse.training < 0.3 * dense.training


def test_what_the_sparse_backend_refuses_stays_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 4, 3, padding=2), nn.Flatten(), nn.Linear(64, 10)
        )

    assert refused(mine()) == ({"1.weight": "weight of ConvTranspose2d"}, 2)
    monkeypatch.setattr(Setting, "build", lambda self: mine())
    result = bench(Setting("mine", (1, 8, 8), 4, "static", threads=1), [0.9])
    ways = ["dense", "dense, bf16 autocast", "masked, 0.9", "sparse, 0.9, bf16 autocast", "sparse, 0.9"]
    assert [row.way.name for row in result.rows] == ways
    sparse = result.rows[-1]
    assert "1.weight" in sparse.way.exclude
    assert sparse.update is None
    assert 0.1 < sparse.flops < 1
    assert "1.weight dense: the sparse backend does not run a weight of ConvTranspose2d" in result.reasons


def test_reasons_name_dense_layers_and_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), Rows(), nn.Linear(64, 64), nn.Linear(64, 4))

    monkeypatch.setattr(Setting, "build", lambda self: broken())
    lines = reasons(Subject(Setting("mine", (64,), 8), Way("sparse", 0.25)), {})
    assert "4.weight runs dense: the distribution leaves it whole" in lines
    assert any(line.startswith("0.weight has density 0.7") for line in lines)
    assert "3 gets its input in rows and transposes it: after 2" in lines
    assert "torch copies 1 tensors of a forward pass, to have them in rows (attention, reshapes)" in lines


class Rows(nn.Module):
    """What a layer that knows no lanes does to them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (Setting("mpl", (1, 8, 8), 4), "did you mean 'mlp'"),
        (Setting("no_such_file:make", (8,), 4), "names a function without arguments"),
        (Setting("builtins:list", (8,), 4), "should make a torch.nn.Module"),
        (Setting("lenet5", (64,), 4), "lenet5"),
    ],
)
def test_models_that_cannot_be(setting: Setting, said: str) -> None:
    with pytest.raises(RegrowError, match=said):
        Subject(setting, Way())
