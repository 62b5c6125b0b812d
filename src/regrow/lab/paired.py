"""Paired timing: several ways of doing the same, turn by turn in one process, and what may be said of their ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Task = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """The median over rounds of one way's seconds / another's, and its 95 % interval."""

    median: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of seconds measured in the same rounds; the interval is from order statistics (binomial)."""
    ordered = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    n = len(ordered)
    reach = 1.96 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return Ratio(statistics.median(ordered), ordered[low], ordered[high])


def in_turn(tasks: Sequence[Task], rounds: int, calls: int = 1) -> list[list[float]]:
    """Seconds per call of each task in each round, `calls` calls a turn.

    Every other round goes backwards, so that drift and what a task leaves in the caches fall on all.
    """
    for task in tasks:
        for _ in range(2):
            task()
    seconds: list[list[float]] = [[] for _ in tasks]
    order = range(len(tasks))
    for turn in range(rounds):
        for which in order if turn % 2 else reversed(order):
            start = time.perf_counter()
            for _ in range(calls):
                tasks[which]()
            seconds[which].append((time.perf_counter() - start) / calls)
    return seconds
