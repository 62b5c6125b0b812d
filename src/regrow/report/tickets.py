"""The tickets of runs: how differently they answer, what they share, and what lies between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from regrow.report.cells import Cell
from regrow.report.figure import Figure, Section, heat
from regrow.report.plot import Plot
from regrow.report.read import Run
from regrow.report.spread import Spread
from regrow.report.words import percent, short
from regrow.train.record import Record

SHOWN = 4  # recipes
BARRIER = 0.1  # the loss barrier at which recipes refuse to average


def tickets(cells: Sequence[Cell]) -> Section | None:
    """Of the first seed of each recipe that took several."""
    taken = [(cell, cell.runs[0]) for cell in cells if len((cell.runs[0].result or {}).get("tickets", ())) > 1][:SHOWN]
    figures = []
    for cell, run in taken:
        apart = run.judged.get("diversity") or {}
        figures += [figure for draw in (_disagreement, _overlap) if (figure := draw(cell, run, apart))]
        if paths := run.judged.get("paths"):
            figures.append(_paths(cell, paths))
    about = "Sparse networks taken from one run. Those that differ make a better ensemble; those of one basin average."
    return Section("tickets", "Tickets", about, figures) if figures else None


def _disagreement(cell: Cell, run: Run, apart: Record) -> Figure | None:
    matrix, told = apart.get("disagreements"), run.result or {}
    if not matrix:
        return None
    together = Spread.of([told.get("ensemble", {}).get("test_accuracy")])
    alone = Spread.of(ticket["test_accuracy"] for ticket in told.get("tickets", ()))
    gain = ""
    if together and alone:
        gain = f" Together they are right on {percent(together.mean)}, alone on {percent(alone.mean)} on average."
    caption = f"The share of test samples, in percent, on which two tickets say different things.{gain}"
    names = [f"ticket {i}" for i in range(len(matrix))]
    return heat(
        f"Disagreement: {cell.label}", caption, names, names, _off(matrix), "{:.2f}", 100, (0, _highest(matrix))
    )


def _overlap(cell: Cell, run: Run, apart: Record) -> Figure | None:
    matrix = apart.get("overlaps")
    if not matrix or not run.result:
        return None
    density = run.result["density"]
    pairs = [matrix[i][j] for i, j in combinations(range(len(matrix)), 2)]
    caption = (
        f"Connections that two tickets share, of those that either has. Two drawn at random would share "
        f"{density / (2 - density):.2f}; these share {min(pairs):.2f} to {max(pairs):.2f}."
    )
    names = [f"ticket {i}" for i in range(len(matrix))]
    return heat(f"Shared connections: {cell.label}", caption, names, names, _off(matrix), dark=(0, 1))


def _paths(cell: Cell, paths: Sequence[Record]) -> Figure:
    losses = [loss for path in paths for loss in path["loss"] if loss is not None]
    level = sum(losses) / max(len(losses), 1)
    plot = Plot(right=74).axes([0, 1], [*losses, 0.9 * level, 1.1 * level])
    plot.x_axis("from ticket 0 to the other →", ticks=[0, 0.25, 0.5, 0.75, 1]).y_axis("validation loss")
    ends, heights = [], []
    for number, path in enumerate(paths, 1):
        points = [(a, loss) for a, loss in zip(path["at"], path["loss"], strict=True) if None not in (a, loss)]
        if not points:
            continue
        look = f"d{2 + round(3 * (number - 1) / max(len(paths) - 1, 1))}"
        plot.line(points, look, f"to ticket {number}")
        ends.append((points[-1], f"ticket {number}", look))
        first, last = points[0][1], points[-1][1]
        heights.append(max(loss - (1 - a) * first - a * last for a, loss in points))
    plot.end_labels(ends)
    height = max(heights, default=0.0)
    rise = f"rises by {short(height)} above its ends" if height > 1e-3 * level else "does not rise above its ends"
    basin = "they lie in one basin, and may be averaged" if height < BARRIER else "their average would be worth less"
    caption = f"Validation loss on the straight line between two tickets. It {rise}: {basin}."
    title = f"Between tickets: {cell.label}"
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _off(matrix: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Without the diagonal, which says nothing."""
    return [[None if i == j else value for j, value in enumerate(row)] for i, row in enumerate(matrix)]


def _highest(matrix: Sequence[Sequence[float | None]]) -> float:
    return max((value for row in matrix for value in row if value), default=1.0)
