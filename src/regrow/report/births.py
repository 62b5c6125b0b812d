"""The birth-and-age map: of the connections born in each epoch, how many are left in each later one."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from regrow.report.cells import Cell
from regrow.report.figure import Figure
from regrow.report.plot import Plot
from regrow.report.read import Run
from regrow.report.words import percent
from regrow.train.record import Record

SHADES = 10  # of the square root, so that a tenth can still be seen


def births(cell: Cell, run: Run) -> Figure | None:
    """Of the connections born in each epoch, how many are left in each later one."""
    rows = [row for row in run.rows if row.get("births")]
    if len(rows) < 2:
        return None
    width = rows[-1]["births"]["width"]
    counts = [_binned(row["births"], width) for row in rows]
    bins, total = max(map(len, counts)), sum(counts[-1])
    plot = Plot().axes([rows[0]["epoch"] - 1, rows[-1]["epoch"]], [-width, (bins - 1) * width], tight=True)
    plot.x_axis("epoch →").y_axis("epoch of birth")
    tall, wide = (plot.bottom - plot.top) / bins, (plot.right - plot.left) / len(rows)
    born = [max((row[b] for row in counts if b < len(row)), default=0) or 1 for b in range(bins)]
    shades: dict[int, list[str]] = {}
    for b in range(bins):
        levels = [round(SHADES * sqrt(row[b] / born[b])) if b < len(row) else 0 for row in counts]
        for start, length, level in _runs(levels):
            x, y, w = plot.left + start * wide, plot.bottom - (b + 1) * tall, length * wide
            shades.setdefault(level, []).append(f"M{x:.1f} {y:.1f}h{w:.1f}v{tall:.1f}h-{w:.1f}z")
    for level, boxes in sorted(shades.items()):
        if level:
            plot.mark("".join(boxes), f"cell v{level}", len(boxes))
    title = f"Birth and age of connections: {cell.label}"
    age = _median_age(counts[-1], width, rows[-1]["epoch"])
    caption = (
        "A row is what was born in an epoch, the lowest what was there from the start; it fades as those connections "
        "go. "
        f"At the end {percent(counts[-1][0] / total)} of all are from the start"
        + (f", and half are at most {age} epochs old." if age < rows[-1]["epoch"] else ".")
    )
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _binned(births: Record, width: int) -> list[int]:
    """The counts in bins of `width` epochs, which is a multiple of their own; the start stays apart."""
    every = max(1, width // births["width"])
    start, *later = births["alive"]
    return [start, *(sum(later[i : i + every]) for i in range(0, len(later), every))]


def _runs(levels: Sequence[int]) -> list[tuple[int, int, int]]:
    """(start, length, level) of stretches of equal level."""
    found: list[tuple[int, int, int]] = []
    for at, level in enumerate(levels):
        if found and found[-1][2] == level:
            found[-1] = (found[-1][0], found[-1][1] + 1, level)
        else:
            found.append((at, 1, level))
    return found


def _median_age(alive: Sequence[int], width: int, epoch: int) -> int:
    half, seen = sum(alive) / 2, 0
    for b in reversed(range(len(alive))):
        seen += alive[b]
        if seen >= half:
            return max(1, epoch - (b - 1) * width) if b else epoch
    return epoch
