"""How runs went: accuracy, loss and exploration, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.report.cells import Cell, best_of_kinds
from regrow.report.costs import legend
from regrow.report.figure import Figure, Section
from regrow.report.plot import Plot
from regrow.report.spread import Spread
from regrow.report.words import percent, short, shown

Curve = list[tuple[int, Spread]]


def learning(cells: Sequence[Cell]) -> Section | None:
    """Of the best recipe of each kind."""
    chosen = best_of_kinds(cells)
    accuracy, loss = _curves(chosen, "val_accuracy"), _curves(chosen, "loss")
    figures = []
    if accuracy:
        caption = _learned(accuracy) + _seeds(accuracy)
        figures.append(_figure("Accuracy on validation", caption, accuracy, "validation accuracy", share=True))
    if loss:
        lowest, curve = min(loss, key=lambda found: found[1][-1][1].mean)
        caption = f"{lowest.label} ends lowest, at {short(curve[-1][1].mean)}, after {curve[-1][0]} epochs."
        figures.append(_figure("Loss on training data", caption + _seeds(loss), loss, "training loss", log=True))
    about = _about(cells, chosen)
    return Section("curves", "Learning curves", about, figures, legend=legend(chosen)) if figures else None


def exploration(cells: Sequence[Cell]) -> list[Figure]:
    """R_s over the run, and what it bought."""
    sparse = [cell for cell in cells if cell.sparse]
    chosen = best_of_kinds(sparse)
    figures = []
    if curves := _curves(chosen, "exploration_rate"):
        most, curve = max(curves, key=lambda found: found[1][-1][1].mean)
        caption = (
            f"The share of all weights that have ever existed. {most.label} has tried "
            f"{percent(curve[-1][1].mean)} of them, at a density of {short(_end(most, 'density'))}."
        )
        figures.append(_figure("Exploration rate R_s", caption, curves, "R_s", share=True))
    points = [(c, rate, c.accuracy) for c in sparse if (rate := c.over("exploration_rate")) and c.accuracy]
    if len(points) > 1:
        figures.append(_bought([(c, rate, accuracy) for c, rate, accuracy in points if accuracy]))
    return figures


def _bought(points: Sequence[tuple[Cell, Spread, Spread]]) -> Figure:
    edges = [y for _, _, a in points for y in (a.mean - a.half, a.mean + a.half)]
    plot = Plot().axes([rate.mean for _, rate, _ in points], edges)
    plot.x_axis("R_s at the end →", percent=True).y_axis("test accuracy", percent=True)
    for kind in dict.fromkeys(cell.kind for cell, _, _ in points):
        alike = sorted((rate.mean, accuracy.mean) for cell, rate, accuracy in points if cell.kind == kind)
        plot.line(alike, next(f"{cell.look} faint" for cell, _, _ in points if cell.kind == kind))
    for cell, rate, accuracy in points:
        told = f"{cell.label}: R_s {percent(rate.mean)}, accuracy {percent(accuracy.mean)}"
        plot.dot((rate.mean, accuracy.mean), cell.look, cell.colour, accuracy.half, told)
    for cell, rate, accuracy in points if len(points) <= 14 else ():
        plot.label((rate.mean, accuracy.mean), cell.label)
    strength = _correlation([(r.mean, a.mean) for _, r, a in points])
    said = "" if strength is None else f" Over these recipes the correlation is {strength:+.2f}."
    caption = f"ITOP's question: do runs that have tried more weights end more accurate?{said}"
    return Figure("Accuracy against R_s", caption, plot.svg(f"Accuracy against R_s. {caption}"), plot.marks)


def _curves(cells: Sequence[Cell], key: str) -> list[tuple[Cell, Curve]]:
    return [(cell, curve) for cell in cells if (curve := cell.curve(key))]


def _figure(
    title: str, caption: str, curves: Sequence[tuple[Cell, Curve]], name: str, share: bool = False, log: bool = False
) -> Figure:
    longest = max(len(cell.label) for cell, _ in curves)
    plot = Plot(right=20 + min(5.9 * longest, 112)) if len(curves) > 1 else Plot()
    means = [spread.mean for _, curve in curves for _, spread in curve]
    log = log and min(means) > 0 and max(means) / min(means) > 8
    plot.axes(
        [1, *(epoch for _, curve in curves for epoch, _ in curve)], _visible(means) if share else means, (False, log)
    )
    plot.x_axis("epoch →").y_axis(name, percent=share)
    for cell, curve in curves:
        points = [(epoch, max(spread.mean, plot.y.low)) for epoch, spread in curve]
        if any(spread.std for _, spread in curve):
            low, high = ([max(s.mean + sign * (s.std or 0.0), plot.y.low) for _, s in curve] for sign in (-1, 1))
            plot.band([epoch for epoch, _ in curve], low, high, cell.look)
        plot.line(points, cell.look, f"{cell.label}: {shown(points[-1][1], '{:.4g}')} at the end")
    if len(curves) > 1:
        plot.end_labels(
            [((c[-1][0], max(c[-1][1].mean, plot.y.low)), cell.label[:20], cell.look) for cell, c in curves]
        )
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _visible(means: Sequence[float]) -> list[float]:
    """Without the worst first tenth, which would press the rest together."""
    ordered = sorted(means)
    return ordered[len(ordered) // 10 :]


def _learned(curves: Sequence[tuple[Cell, Curve]]) -> str:
    best, curve = max(curves, key=lambda found: found[1][-1][1].mean)
    near = next(epoch for epoch, spread in curve if spread.mean >= curve[-1][1].mean - 0.005)
    return f"{best.label} ends highest, at {percent(curve[-1][1].mean)}, and is within .5 % of it from epoch {near} on."


def _seeds(curves: Sequence[tuple[Cell, Curve]]) -> str:
    banded = any(spread.std for _, curve in curves for _, spread in curve)
    return " Bands: one standard deviation over seeds." if banded else ""


def _about(cells: Sequence[Cell], chosen: Sequence[Cell]) -> str:
    return "" if len(chosen) == len(cells) else f"The most accurate recipe of each kind, {len(chosen)} of {len(cells)}."


def _end(cell: Cell, key: str) -> float | None:
    spread = cell.over(key)
    return spread.mean if spread else (cell.curve(key)[-1][1].mean if cell.curve(key) else None)


def _correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's, of at least four points."""
    n = len(points)
    mx, my = (sum(axis) / n for axis in zip(*points, strict=True))
    xx, yy = sum((x - mx) ** 2 for x, _ in points), sum((y - my) ** 2 for _, y in points)
    xy = sum((x - mx) * (y - my) for x, y in points)
    return xy / (xx * yy) ** 0.5 if n >= 4 and xx * yy > 0 else None
