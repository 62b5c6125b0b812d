"""A mean over seeds and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The .975 quantile of Student's t for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and number of values; `half` is half the 95 % interval of the mean (Student's t)."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Of the values there are; None if there is none."""
        known = [value for value in values if value is not None]
        return cls(fmean(known), stdev(known) if len(known) > 1 else None, len(known)) if known else None

    @property
    def half(self) -> float:
        """0 for a single value, of which nothing is known."""
        if self.std is None:
            return 0.0
        return (STUDENT[self.n - 2] if self.n - 2 < len(STUDENT) else 1.96) * self.std / sqrt(self.n)
