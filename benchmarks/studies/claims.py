"""From finished lines to verdicts: per-seed values, t-intervals, Kolmogorov-Smirnov, Holm, and the study's rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from benchmarks.studies.study import Comparison, Differs, Paired, Result, Results, Rise, Study
from scipy import stats  # type: ignore[import-untyped]

LOWER_IS_BETTER = ("nll", "ece")


@dataclass(frozen=True)
class Verdict:
    """One claim as judged; without numbers as long as seeds are missing, without an interval where it has none."""

    claim: str
    bound: float
    seeds: int
    of: int
    mean: float | None = None
    half_width: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    word: str = "incomplete"


@dataclass(frozen=True)
class Finding:
    """Of how many seeds out of how many; with all of them, the mean of what is claimed, and p against the bound."""

    seeds: int
    of: int
    mean: float = math.nan
    half_width: float | None = None
    p: float = 1.0


def judge(study: Study, table: Sequence[Comparison], results: Results) -> list[Verdict]:
    """The claims of one table by the study's rule; claims without results count in Holm's adjustment, with p = 1."""
    findings = [find(study, comparison, results) for comparison in table]
    verdicts = []
    for comparison, found, adjusted in zip(table, findings, holm([each.p for each in findings]), strict=True):
        claim, bound = comparison.claim, comparison.bound
        if found.seeds < found.of:
            verdicts.append(Verdict(claim, bound, found.seeds, found.of))
            continue
        word = "underpowered"
        if adjusted < study.level:
            word = "supported" if found.mean > bound else "contradicted"
        numbers = found.mean, found.half_width, found.p, adjusted
        verdicts.append(Verdict(claim, bound, found.seeds, found.of, *numbers, word))
    return verdicts


def find(study: Study, comparison: Comparison, results: Results) -> Finding:
    """What the results say of a claim."""
    seeds = study.seeds
    if isinstance(comparison, Differs):
        seeds = tuple(sorted(set.intersection(*(set(study.seeds_of(cell)) for cell in comparison.cells))))
    whole = [seed for seed in seeds if all((cell, seed) in results for cell in comparison.cells)]
    if len(whole) < len(seeds):
        return Finding(len(whole), len(seeds))
    if isinstance(comparison, Differs):
        ours, theirs = ([worth(results[cell, seed]) for seed in whole] for cell in comparison.differs)
        p = float(stats.ks_2samp(ours, theirs).pvalue)
        return Finding(len(whole), len(seeds), fmean(ours) - fmean(theirs), None, p)
    values = [value(comparison, [results[cell, seed] for cell in comparison.cells]) for seed in whole]
    return Finding(len(whole), len(seeds), *interval(values), p_value(values, comparison.bound))


def value(comparison: Rise | Paired, lines: Sequence[Result]) -> float:
    """What the claim is about, for one seed: a difference, or points per unit of R_s."""
    if isinstance(comparison, Rise):
        return slope([line["exploration_rate"] for line in lines], [worth(line) for line in lines])
    of, against = lines
    other = against["systems"][comparison.system] if comparison.system else against
    return worth(of, comparison.measure) - worth(other, comparison.measure)


def worth(line: Result, measure: str = "test_accuracy") -> float:
    """A measure, the higher the better: points, nats for an NLL."""
    sign = -1.0 if measure.endswith(LOWER_IS_BETTER) else 1.0
    return sign * (1.0 if measure.endswith("nll") else 100.0) * float(line[measure])


def points(lines: Iterable[Result]) -> list[float]:
    return [worth(line) for line in lines]


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
