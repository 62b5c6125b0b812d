"""What is trained: the cells of ITOP and of the two systems of tickets, as plans over a reference length in steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regrow.core.schedules import Constant, Every, Stages
from regrow.tickets.plan import Plan, edst, itop, sup_tickets

FALLING = Stages((1.0, 0.1, 0.01), (0.5, 0.75))  # the learning rate of a whole run
HALF = Constant(0.5)  # the share that an update replaces, FreeTickets and Sup-tickets


@dataclass(frozen=True)
class Cell:
    """One kind of run.

    Args:
        density: None is dense.
        plan: steps of the reference length, 250 epochs as published -> the phases.
        every: the same -> when the topology is updated; a shorter run keeps the papers' number of updates.
        averaged: whether the tickets are superposed (CIA).
        members: how many runs of cell `of`, by seed, are judged as one ensemble; 0 for a run.
    """

    density: float | None = None
    plan: Callable[[int], Plan] = lambda steps: itop(steps, lr=FALLING)
    every: Callable[[int], int | Every] = lambda steps: max(1, round(steps * 4000 / 97_750))
    averaged: bool = False
    members: int = 0
    of: str = ""


@dataclass(frozen=True)
class Suite:
    """Cells of one network, in the order in which they are run."""

    model: str
    nesterov: bool
    cells: dict[str, Cell]


def _often(steps: int) -> Every:
    """Each 1000 of 97,750 steps; a ticket is no iterate that was just disturbed."""
    return Every(max(1, round(steps * 1000 / 97_750)), end=0.95)


def _edst(steps: int) -> Plan:
    """450 epochs to 250: exploration of 150, refinements of 50 + 50."""
    epoch = steps / 250
    explore, stage = max(1, round(150 * epoch)), max(1, round(50 * epoch))
    return edst(explore, (stage, stage), 3, fraction=HALF)


def _sup(steps: int) -> Plan:
    """226 epochs and three cycles of 8, of equal length in all."""
    cycle = max(1, round(steps * 8 / 250))
    return sup_tickets(steps - 3 * cycle, cycle, 3, lr=FALLING, fraction=HALF)


def _rigl(steps: int) -> Plan:
    return itop(steps, lr=FALLING, fraction=HALF)


SUITES = {
    # Liu et al. 2021, arXiv:2102.02887
    "itop": Suite(
        "resnet34",
        True,
        {"dense": Cell(), "rigl-itop-90": Cell(0.10), "rigl-itop-95": Cell(0.05), "rigl-itop-98": Cell(0.02)},
    ),
    # Liu et al. 2022, arXiv:2106.14568 (EDST, DST); Yin et al. 2022, arXiv:2205.15322 (Sup-tickets)
    "tickets": Suite(
        "resnet18",
        False,
        {
            "dense": Cell(),
            "edst-80": Cell(0.20, _edst, _often),
            "edst-90": Cell(0.10, _edst, _often),
            "rigl-90": Cell(0.10, _rigl, _often),
            "rigl-sup-90": Cell(0.10, _sup, _often, averaged=True),
            "rigl-80": Cell(0.20, _rigl, _often),
            "dst-90": Cell(members=3, of="rigl-90"),
            "dst-80": Cell(members=3, of="rigl-80"),
            "dense-ensemble": Cell(members=3, of="dense"),
        },
    ),
}
