"""Numbers in words: a dash for what is missing or is no number."""

from __future__ import annotations

from math import isfinite

MISSING = "-"


def shown(value: float | None, form: str = "{:.2f}", scale: float = 1) -> str:
    """The value in this form, or a dash."""
    return MISSING if value is None or not isfinite(value) else form.format(scale * value)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as `12.3 %`, which is never broken."""
    return shown(value, f"{{:.{digits}f}}\N{NO-BREAK SPACE}%", 100)


def short(value: float | None) -> str:
    """Three digits, without needless zeros: .05, 12, 1.2k, 3.4M."""
    if value is None or not isfinite(value):
        return MISSING
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """`4.1 s`, `3:20 min`, `2:05 h`."""
    if seconds is None or not isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60) if seconds >= 3600 else int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 3600 else f"{minutes}:{int(seconds % 60):02d} min"
