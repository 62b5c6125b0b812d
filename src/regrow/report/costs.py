"""Accuracy against what it cost: FLOPs, seconds, bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from regrow.report.cells import Cell
from regrow.report.figure import Figure, Section
from regrow.report.plot import Plot
from regrow.report.spread import Spread
from regrow.report.words import duration, percent

LABELLED = 14  # dots; beyond, names would only hide them


@dataclass(frozen=True)
class Priced:
    """A dot: what was reached, and for how much."""

    cell: Cell
    label: str
    accuracy: Spread
    price: float
    open: bool = False  # of the run's tickets, not of its last iterate


Price = Callable[[Cell], float | None]
COSTS: Sequence[tuple[str, str, Price, Callable[[float], str], bool]] = (
    ("training FLOPs", "of dense training", lambda c: _flops(c, "training_ratio"), lambda v: f"{v:.2f}x", True),
    ("training seconds", "as run", lambda c: _mean(c, "seconds"), duration, True),
    ("bytes held", "with optimizer and positions", lambda c: _bytes(c), lambda v: f"{v / 1e6:.3g} MB", False),
)
"""Title, what is counted, the price, its words, and whether a run's tickets come with it for the same price."""


def costs(cells: Sequence[Cell]) -> Section | None:
    """Where two recipes can be compared."""
    figures = [figure for cost in COSTS if (figure := _cost(cells, *cost))]
    if not figures:
        return None
    about = "What each recipe reached on the test split, against what it took. Up is more accurate, left is cheaper."
    return Section("cost", "Accuracy against cost", about, figures, legend=legend(cells))


def legend(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """A name per colour; kinds beyond the colours share one."""
    names: dict[str, list[str]] = {}
    for cell in cells:
        if cell.kind not in names.setdefault(cell.look, []):
            names[cell.look].append(cell.kind)
    return [(look, ", ".join(found)) for look, found in names.items()]


def _cost(
    cells: Sequence[Cell], name: str, what: str, price: Price, worded: Callable[[float], str], tickets: bool
) -> Figure | None:
    dots = [dot for cell in cells if (at := price(cell)) for dot in _dots(cell, at, tickets)]
    if len({dot.cell.folder for dot in dots}) < 2:
        return None
    plot = Plot().axes(
        [dot.price for dot in dots],
        [y for dot in dots for y in (dot.accuracy.mean - dot.accuracy.half, dot.accuracy.mean + dot.accuracy.half)],
        log=(max(d.price for d in dots) / min(d.price for d in dots) > 4, False),
    )
    plot.x_axis(f"{name}, {what} →").y_axis("test accuracy", percent=True)
    for _, same in groupby(sorted(dots, key=lambda d: (d.cell.kind, d.open, d.price)), lambda d: (d.cell.kind, d.open)):
        row = list(same)
        if len(row) > 1 and not row[0].open:
            plot.line([(dot.price, dot.accuracy.mean) for dot in row], f"{row[0].cell.look} faint")
    for dot in dots:
        look = dot.cell.look + (" open" if dot.open else "")
        told = f"{dot.label}: {percent(dot.accuracy.mean)}, {worded(dot.price)}"
        plot.dot((dot.price, dot.accuracy.mean), look, dot.cell.colour, dot.accuracy.half, told)
    for dot in sorted(dots, key=lambda d: -d.accuracy.mean):
        if len(dots) <= LABELLED:
            plot.label((dot.price, dot.accuracy.mean), dot.label)
    caption = _caption(dots, name, worded)
    return Figure(f"Accuracy against {name}", caption, plot.svg(f"Accuracy against {name}. {caption}"), plot.marks)


def _dots(cell: Cell, price: float, tickets: bool) -> list[Priced]:
    if cell.accuracy is None:
        return []
    dots = [Priced(cell, cell.label, cell.accuracy, price)]
    together = Spread.of(
        r["ensemble"].get("test_accuracy") for r in cell.results if r.get("ensemble", {}).get("members", 1) > 1
    )
    averaged = Spread.of((r.get("superposed") or {}).get("test_accuracy") for r in cell.results)
    for spread, word in ((together, "together"), (averaged, "averaged")):
        if tickets and spread and spread.mean != cell.accuracy.mean:
            dots.append(Priced(cell, f"{cell.label}, {word}", spread, price, True))
    return dots


def _caption(dots: Sequence[Priced], name: str, worded: Callable[[float], str]) -> str:
    best = max(dots, key=lambda d: (d.accuracy.mean, -d.price))
    near = [d for d in dots if d.accuracy.mean >= best.accuracy.mean - max(best.accuracy.half, 0.005)]
    cheap = min(near, key=lambda d: d.price)
    words = f"Most accurate: {best.label}, {percent(best.accuracy.mean)} for {worded(best.price)}."
    if cheap.label != best.label and cheap.price < 0.98 * best.price:
        words += (
            f" Nearly as good and cheapest: {cheap.label}, {percent(cheap.accuracy.mean)} for {worded(cheap.price)}."
        )
    if any(d.accuracy.half for d in dots):
        words += " Bars: 95 % interval of the mean over seeds."
    if any(d.open for d in dots):
        words += " Open marks: a run's tickets, together or averaged."
    return words


def _mean(cell: Cell, key: str) -> float | None:
    spread = cell.over(key)
    return spread.mean if spread else None


def _flops(cell: Cell, key: str) -> float | None:
    spread = Spread.of((result["flops"] or {}).get(key) for result in cell.results)
    return spread.mean if spread else None


def _bytes(cell: Cell) -> float | None:
    spread = Spread.of(result["bytes"] + (result.get("bytes_topology") or 0) for result in cell.results)
    return spread.mean if spread else None
