"""Timetable: which period of a run a step belongs to. A run without a plan is one period."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from regrow.core.errors import RegrowError
from regrow.core.schedules import Every, Schedule
from regrow.core.site import Clock
from regrow.methods.base import Method
from regrow.methods.static import Static


class Period(Protocol):
    """What a sparsifier must know of a stretch of a run; a `Phase` of a plan is one.

    Attributes:
        steps: its length, which is the horizon of the method's schedules within it.
        fraction: the drop fraction, instead of the method's own.
        explore: share of the weights replaced once, at its first step; 0 for none.
        evolve: whether the method updates the topology besides.
    """

    @property
    def steps(self) -> int: ...

    @property
    def fraction(self) -> Schedule | None: ...

    @property
    def explore(self) -> float: ...

    @property
    def evolve(self) -> bool: ...


P = TypeVar("P", bound=Period)


@dataclass(frozen=True)
class WholeRun:
    """The one period of a run without a plan."""

    steps: int
    fraction: Schedule | None = None
    explore: float = 0.0
    evolve: bool = True


class Timetable(Generic[P]):
    """Periods one after another. What has passed of a run does not depend on what is still to come."""

    def __init__(self, periods: Sequence[P]) -> None:
        self.periods = tuple(periods)
        self._ends = list(accumulate(period.steps for period in self.periods))

    @property
    def total_steps(self) -> int:
        return self._ends[-1]

    def at(self, step: int) -> tuple[P, int]:
        """The period of the run's `step`-th step (from 1), and which of its own steps that is; the last goes on."""
        at = min(bisect_left(self._ends, step), len(self._ends) - 1)
        return self.periods[at], step - self._starts(at)

    def beginning(self, done: int) -> P | None:
        """The period whose first step comes after `done` steps, if one begins there."""
        at = bisect_right(self._ends, done)
        return self.periods[at] if at < len(self._ends) and self._starts(at) == done else None

    def updates(self, every: Every | None) -> int:
        """How many steps of the run update the topology, explorations among them."""
        own = sum(every.updates(period.steps) for period in self.periods if period.evolve) if every else 0
        return own + sum(period.explore > 0 for period in self.periods)

    def past(self, done: int) -> list[str]:
        """The periods that `done` steps have entered, in words."""
        return [_words(period) for at, period in enumerate(self.periods) if self._starts(at) < done]

    def _starts(self, at: int) -> int:
        return self._ends[at] - self.periods[at].steps


@dataclass(frozen=True)
class Agenda:
    """What a method has to do at each step of a run.

    Args:
        density: what the run is to end with; None where only a first topology was given.
    """

    method: Method
    timetable: Timetable[Period]
    density: float | None

    def due(self, step: int) -> bool:
        """Whether the method updates the topology at this step."""
        period, own_step = self.timetable.at(step)
        every = self.method.every if period.evolve else None
        return every is not None and every.due(own_step, period.steps)

    def clock(self, step: int) -> Clock:
        """Where this step stands in its period."""
        period, own_step = self.timetable.at(step)
        every, total = self.method.every, max(period.steps, 1)
        progress = every.progress(own_step, total) if every else own_step / total
        return Clock(own_step, period.steps, progress, self.density)

    def fraction(self, step: int) -> float | None:
        """The drop fraction that the period has in place of the method's own."""
        schedule = self.timetable.at(step)[0].fraction
        return None if schedule is None else schedule(self.clock(step).progress)

    def exploration(self, fraction: float) -> float:
        """The share that an extra update replaces.

        Raises:
            RegrowError: no share, or a method that has no updates.
        """
        if not 0.0 < fraction <= 1.0:
            raise RegrowError(f"explore({fraction:g}): the share of weights replaced is in (0, 1]")
        if isinstance(self.method, Static):
            raise RegrowError(
                f"explore({fraction:g}): static never updates; give the method that is to explore, and for a fixed "
                "topology meanwhile a plan of phases with evolve=False"
            )
        return fraction


def _words(period: Period) -> str:
    own = "the method's" if period.fraction is None else getattr(period.fraction, "__name__", repr(period.fraction))
    return f"{period.steps} steps, fraction {own}, explore {period.explore:g}, evolve {period.evolve}"


def check_horizon(method: Method, plan: Sequence[Period], total_steps: int) -> None:
    """The run must know its length where that matters, and something must happen to the topology.

    Raises:
        RegrowError: no length, two, or a method that would never act in it.
    """
    every = method.every
    if plan and total_steps not in (0, length := sum(period.steps for period in plan)):
        raise RegrowError(f"total_steps={total_steps}, but the plan has {length} steps; give the plan alone")
    if every is None:
        if any(period.explore for period in plan):
            raise RegrowError(
                "the plan explores, but the method never updates; for a fixed topology between explorations give the "
                "method that is to explore, and phases with evolve=False"
            )
        return
    if not plan and total_steps < 1:
        raise RegrowError("sparsify needs total_steps=..., the optimizer steps of the whole run: epochs * len(loader)")
    periods = plan or [WholeRun(total_steps)]
    if not any(period.explore or (period.evolve and every.updates(period.steps)) for period in periods):
        longest = max(period.steps for period in periods)
        raise RegrowError(
            f"the method updates every {every.interval} steps, the {'longest phase' if plan else 'run'} has {longest}: "
            f"no update would ever happen; pass every={max(1, longest // 20)}, or method='static'"
        )
