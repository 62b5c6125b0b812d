"""From finished runs to verdicts: per-seed values, t-intervals, Holm, and the study's rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats  # type: ignore[import-untyped]
from study import Comparison, Paired, Results, Study


@dataclass(frozen=True)
class Verdict:
    """One claim as judged; without numbers as long as seeds are missing."""

    claim: str
    bound: float
    seeds: int
    mean: float | None = None
    half_width: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    word: str = "incomplete"


def judge(study: Study, table: Sequence[Comparison], results: Results) -> list[Verdict]:
    """The claims of one table by the study's rule; claims without results count in Holm's adjustment, with p = 1."""
    values = [per_seed(study, comparison, results) for comparison in table]
    whole = [len(found) == len(study.seeds) for found in values]
    ps = [
        p_value(found, comparison.bound) if complete else 1.0
        for comparison, found, complete in zip(table, values, whole, strict=True)
    ]
    verdicts = []
    for comparison, found, complete, p, adjusted in zip(table, values, whole, ps, holm(ps), strict=True):
        if not complete:
            verdicts.append(Verdict(comparison.claim, comparison.bound, len(found)))
            continue
        mean, half = interval(found)
        word = "underpowered"
        if adjusted < study.level:
            word = "supported" if mean > comparison.bound else "contradicted"
        verdicts.append(Verdict(comparison.claim, comparison.bound, len(found), mean, half, p, adjusted, word))
    return verdicts


def per_seed(study: Study, comparison: Comparison, results: Results) -> list[float]:
    """What the claim is about, for each seed whose runs have all finished: points, or points per unit of R_s."""
    found = []
    for seed in study.seeds:
        if not all((cell, seed) in results for cell in comparison.cells):
            continue
        rows = [results[cell, seed] for cell in comparison.cells]
        points = [100.0 * row["test_accuracy"] for row in rows]
        if isinstance(comparison, Paired):
            found.append(points[0] - points[1])
        else:
            found.append(slope([row["exploration_rate"] for row in rows], points))
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least squares: sum (x - x̄)(y - ȳ) / sum (x - x̄)²."""
    x_mean, y_mean = fmean(x), fmean(y)
    over = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return over / sum((a - x_mean) ** 2 for a in x)


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of its t-interval (infinite for a single value)."""
    if len(values) < 2:
        return fmean(values), math.inf
    quantile = float(stats.t.ppf((1.0 + level) / 2.0, len(values) - 1))
    return fmean(values), quantile * stdev(values) / math.sqrt(len(values))


def p_value(values: Sequence[float], bound: float) -> float:
    """Two-sided one-sample t-test of the mean against `bound`."""
    error = stdev(values) / math.sqrt(len(values))
    distance = abs(fmean(values) - bound)
    if error == 0.0:
        return float(distance == 0.0)
    return 2.0 * float(stats.t.sf(distance / error, len(values) - 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values: for the k-th smallest of m, the largest of (m - j) p_j over j <= k, at most 1 (Holm 1979)."""
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, (len(ps) - rank) * ps[at])
        adjusted[at] = min(1.0, largest)
    return adjusted
