"""From values to places: linear and logarithmic axes with round ticks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from regrow.report.words import short


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto [start, end] (pixels); `log` for positive values over decades."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, log: bool = False, pad: float = 0.05) -> Scale:
        """Wide enough for the values and a little more."""
        known = [v for v in values if v > 0 or not log]
        low, high = min(known, default=0.0 if not log else 0.1), max(known, default=1.0)
        if log:
            low, high = log10(low), log10(high)
        room = pad * (high - low) if high > low else 0.05 * abs(high) or 0.5
        low, high = low - room, high + room
        return cls(10**low, 10**high, start, end, True) if log else cls(low, high, start, end)

    def at(self, value: float) -> float:
        low, high, value = (
            (log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within, about so many."""
        if self.log and self.high / self.low >= 8:
            marks = (1,) if self.high / self.low > 300 else (1, 3) if self.high / self.low > 30 else (1, 2, 5)
            decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            found = [m * 10.0**d for d in decades for m in marks if self.low <= m * 10.0**d <= self.high]
            return found[:: ceil(len(found) / 7)]
        step = _round_step((self.high - self.low) / about)
        first = ceil(self.low / step - 1e-9)
        return [round(k * step, 12) for k in range(first, floor(self.high / step + 1e-9) + 1)]


def _round_step(step: float) -> float:
    size = 10.0 ** floor(log10(step))
    return size * next(m for m in (1, 2, 2.5, 5, 10) if m * size >= step * 0.999)


def named(ticks: list[float], percent: bool = False, log: bool = False) -> list[str]:
    """Ticks in words, with as many digits as tell them apart."""
    scale, unit = (100, " %") if percent else (1, "")
    step = min((scale * abs(b - a) for a, b in pairwise(ticks)), default=scale * abs(ticks[0]) if ticks else 1.0)
    largest = max((scale * abs(tick) for tick in ticks), default=0.0)
    if log or largest >= 1000 or (largest > 0 and step / largest < 1e-6):
        return [short(scale * tick) + unit for tick in ticks]
    digits = 0
    while digits < 6 and abs(step * 10**digits - round(step * 10**digits)) > 1e-3 * step * 10**digits:
        digits += 1
    return [f"{scale * tick:.{digits}f}{unit}" for tick in ticks]
