"""The course of a topology in the rows of a run: densities, R_s and births, resumed exactly, in bounded room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import regrow
from regrow.core.topology import Topology
from regrow.sparsifier import Sparsifier
from regrow.train.course import BINS, Course


class Moving:
    """What a course reads of a sparsifier, moved by hand: one site of 1000 places."""

    def __init__(self, positions: torch.Tensor) -> None:
        self.move(positions)
        self.explored = self.topology

    def move(self, positions: torch.Tensor) -> None:
        self.topology = Topology({"w": positions.sort().values}, {"w": (1000,)})


@pytest.fixture
def moving() -> Moving:
    return Moving(torch.arange(100))


def course_of(moving: Moving) -> Course:
    return Course(moving)  # type: ignore[arg-type]


def replaced(moving: Moving, number: int, epochs: int) -> Iterator[int]:
    """Every epoch the `number` oldest positions make room for new ones; yields the epoch."""
    for epoch in range(1, epochs + 1):
        now = moving.topology.index("w").tolist()
        fresh = [(now[-1] + 1 + i) % 1000 for i in range(number)]
        moving.move(torch.tensor(now[number:] + fresh))
        yield epoch


def test_births_are_counted_by_epoch(moving: Moving) -> None:
    course = course_of(moving)
    assert "births" not in course.row(), "nothing has moved"
    for epoch in replaced(moving, 10, 3):
        course.look(epoch)
    assert course.row()["births"] == {"width": 1, "alive": [70, 10, 10, 10]}
    assert course.row()["density_by_layer"] == {"w": 0.1}


def test_a_long_run_keeps_few_bins(moving: Moving) -> None:
    course = course_of(moving)
    for epoch in replaced(moving, 1, 300):
        course.look(epoch)
        if "births" in (row := course.row()):
            assert len(row["births"]["alive"]) <= BINS + 1
            assert sum(row["births"]["alive"]) == 100
    births = course.row()["births"]
    assert births["width"] == 8
    assert births["alive"][0] == 0, "none is left of the start"
    assert births["alive"][-1] == 300 - 37 * 8, "born in the epochs of the last bin"
    assert births["alive"][-2] == 8


def test_a_course_is_taken_up_where_it_was(moving: Moving) -> None:
    course, resumed = course_of(moving), course_of(moving)
    for epoch in replaced(moving, 10, 6):
        course.look(epoch)
        if epoch == 3:
            resumed.load_state_dict(course.state_dict())
        if epoch > 3:
            resumed.look(epoch)
    assert resumed.row() == course.row()


def test_a_checkpoint_of_an_earlier_version_counts_from_there(moving: Moving) -> None:
    moving.move(torch.arange(50, 150))
    course = course_of(moving)
    course.load_state_dict(None)
    assert "births" not in course.row()


def test_dense_and_static_runs_have_no_births() -> None:
    assert Course(None).row() == {}
    model = nn.Sequential(nn.Linear(20, 20))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier: Sparsifier = regrow.sparsify(model, optimizer, method="static", density=0.2, total_steps=4)
    course = Course(sparsifier)
    course.look(1)
    assert course.row().keys() == {"density_by_layer", "exploration_by_layer"}
    assert course.state_dict()["born"] == {}
