"""Schedules: progress in [0, 1] -> value. Scale-free, so a recipe survives a change of length."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from regrow.core.errors import RegrowError

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class Constant:
    """v(t) = value."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """v(t) = start + (stop - start) t."""

    start: float
    stop: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.start + (self.stop - self.start) * progress


@dataclass(frozen=True)
class Cosine:
    """v(t) = stop + (start - stop) (1 + cos(pi t)) / 2 (RigL: Evci et al. 2020, arXiv:1911.11134, sec. 3).

    >>> [round(Cosine(0.5, 0.1)(t), 3) for t in (0.0, 0.5, 1.0)]
    [0.5, 0.3, 0.1]
    """

    start: float
    stop: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.stop + (self.start - self.stop) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Cubic:
    """v(t) = stop + (start - stop) (1 - t)^3 (GMP: Zhu & Gupta 2017, arXiv:1710.01878, eq. 1)."""

    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.stop + (self.start - self.stop) * (1.0 - progress) ** 3


@dataclass(frozen=True)
class Cyclic:
    """`cycles` triangles low -> high -> low (Yin et al. 2022, arXiv:2205.15322, eq. 3)."""

    low: float
    high: float
    cycles: int = 1

    def __call__(self, progress: float) -> float:
        phase = progress * self.cycles % 1.0
        return self.low + (self.high - self.low) * (1.0 - abs(1.0 - 2.0 * phase))


@dataclass(frozen=True)
class Stages:
    """v(t) = values[i] in stage i: one value after another.

    Args:
        values: of the stages.
        at: where each stage but the first begins, ascending in (0, 1).
    """

    values: tuple[float, ...]
    at: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.at) + 1 or not all(a < b for a, b in pairwise((0.0, *self.at, 1.0))):
            raise RegrowError(f"{self}: n values need n - 1 moments, ascending in (0, 1)")

    def __call__(self, progress: float) -> float:
        return self.values[bisect_right(self.at, progress)]


@dataclass(frozen=True)
class Part:
    """v(t) = schedule(start + (stop - start) t): a longer schedule's course between two moments of it, in [0, 1]."""

    schedule: Schedule
    start: float
    stop: float

    def __call__(self, progress: float) -> float:
        return self.schedule(self.start + (self.stop - self.start) * progress)


@dataclass(frozen=True)
class Every:
    """Due each `interval` steps, while progress is within [start, end] of the run.

    Args:
        interval: optimizer steps between updates, at least 1.
        start, end: shares of the run, 0 <= start < end <= 1.

    >>> [step for step in range(1001) if Every(300, end=0.75).due(step, total=1000)]
    [300, 600]
    """

    interval: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.interval < 1 or not 0.0 <= self.start < self.end <= 1.0:
            raise RegrowError(f"{self}: the interval must be at least 1 and 0 <= start < end <= 1")

    def due(self, step: int, total: int) -> bool:
        return step > 0 and step % self.interval == 0 and _share(self.start, total) <= step <= _share(self.end, total)

    def progress(self, step: int, total: int) -> float:
        """How far `step` is through the window, in [0, 1]."""
        return min(max((step / total - self.start) / (self.end - self.start), 0.0), 1.0)

    def updates(self, total: int) -> int:
        """How many updates a run of `total` steps makes."""
        first = max(1, -(-math.ceil(_share(self.start, total)) // self.interval))
        return max(0, self.last(total) // self.interval - first + 1)

    def last(self, total: int) -> int:
        """The last step at which an update may be due."""
        return math.floor(_share(self.end, total)) // self.interval * self.interval


def _share(share: float, total: int) -> float:
    """That share of the steps: .35 of 88000 is 30800, although the product of the floats is less."""
    return round(share * total, 6)
