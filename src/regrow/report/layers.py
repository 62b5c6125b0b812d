"""Layer by layer: R_s and density over the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from regrow.report.births import births
from regrow.report.cells import Cell, best_of_kinds
from regrow.report.costs import legend
from regrow.report.curves import exploration
from regrow.report.figure import Figure, Section
from regrow.report.plot import Plot
from regrow.report.read import Run, as_text
from regrow.report.words import percent, short
from regrow.train.record import Record

SHOWN = 6  # runs, one by one
MOVED = 2e-3  # of a share: less is rounding
QUARTERS = (0, 0.25, 0.5, 0.75, 1)


def topology(cells: Sequence[Cell]) -> Section | None:
    """Exploration of all; layers and ages of the best sparse recipe of each kind, of its first seed."""
    figures = exploration(cells)
    chosen = [c for c in best_of_kinds(cell for cell in cells if cell.sparse) if _layered(c.runs[0])][:SHOWN]
    figures += [figure for cell in chosen if (figure := _over_time(cell, "exploration_by_layer", RATE))]
    figures += [_densities(alike) for alike in _alike(chosen)]
    figures += [figure for cell in chosen if (figure := _over_time(cell, "density_by_layer", DENSITY))]
    figures += [figure for cell in chosen if (figure := births(cell, cell.runs[0]))]
    about = "Which weights existed, and when."
    if chosen and len(cells) > 1:
        about += f" Layer by layer for {len(chosen)} of the recipes, seed {chosen[0].runs[0].seed}."
    shown = [cell for cell in cells if cell.sparse]
    return Section("topology", "Topology", about, figures, legend=legend(shown)) if figures else None


def _layered(run: Run) -> list[Record]:
    """The rows that know their layers; of an older run, its end."""
    rows = [row for row in run.rows if row.get("density_by_layer")]
    return rows or ([run.result | {"epoch": 0}] if run.result and run.result.get("density_by_layer") else [])


RATE = ("R_s of each layer", "R_s", lambda name, end: f"{name} has tried {percent(end)} of its weights")
DENSITY = ("How density moved", "density", lambda name, end: f"{name} ends at {short(end)}")
Told = tuple[str, str, Callable[[str, float], str]]


def _over_time(cell: Cell, key: str, told: Told) -> Figure | None:
    """A share per layer over the run, where it moves."""
    rows = [row for row in _layered(cell.runs[0]) if row.get(key)]
    names = list(rows[-1][key]) if rows else []
    paths = {name: [(row["epoch"], row[key].get(name) or 0.0) for row in rows] for name in names}
    if not any(max(y for _, y in path) - min(y for _, y in path) > MOVED for path in paths.values()):
        return None
    title, axis, words = told
    ends = {name: path[-1][1] for name, path in paths.items()}
    least, most = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    plot = Plot(right=112).axes([row["epoch"] for row in rows], [0, 1])
    plot.x_axis("epoch →").y_axis(axis, percent=True, ticks=QUARTERS)
    looks = {name: f"d{1 + round(4 * depth / max(len(names) - 1, 1))}" for depth, name in enumerate(names)}
    for name, path in paths.items():
        plot.line(path, looks[name], f"{name}: {percent(ends[name])}")
    labelled = names if len(names) <= 6 else dict.fromkeys([names[0], least, most, names[-1]])
    plot.end_labels([(paths[name][-1], _short(name), looks[name]) for name in labelled])
    caption = f"Stronger lines are deeper layers. {words(most, ends[most])}, {words(least, ends[least])}."
    title = f"{title}: {cell.label}"
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _alike(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Those with the same densities together: one drawing shows them all."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        rows = _layered(cell.runs[0])
        ends = [{n: round(d, 3) for n, d in row["density_by_layer"].items()} for row in (rows[0], rows[-1])]
        groups.setdefault(as_text(ends), []).append(cell)
    return list(groups.values())


def _densities(cells: Sequence[Cell]) -> Figure:
    rows = _layered(cells[0].runs[0])
    first, last = rows[0]["density_by_layer"], rows[-1]["density_by_layer"]
    step, small = (19.0, "") if len(last) <= 12 else (11.0, "small")
    plot = Plot(left=102, right=44, height=62 + step * len(last)).axes([0, 1], [0, 1])
    plot.x_axis("density →", ticks=QUARTERS)
    for number, (name, now) in enumerate(last.items()):
        y, was = plot.top + step * (number + 0.5), first.get(name, now)
        zero, to = plot.x.at(0), plot.x.at(now)
        plot.rect(zero, y - 0.3 * step, to - zero, 0.6 * step, "bar layer", f"{name}: {short(now)}")
        if abs(now - was) > MOVED:
            plot.mark(f"M{plot.x.at(was):.1f} {y - 0.45 * step:.1f}v{0.9 * step:.1f}", "was")
        plot.text(plot.left - 6, y + 3.8, _short(name), "end", small)
        plot.text(max(to, plot.x.at(was)) + 5, y + 3.8, short(now), look=small)
    thin, thick = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
    caption = f"{thick} keeps {percent(last[thick])} of its weights, {thin} {percent(last[thin])}."
    title = "Density of each layer: " + ", ".join(cell.label for cell in cells)
    return Figure(title, caption + _movement(first, last), plot.svg(f"{title}. {caption}"), plot.marks)


def _movement(first: Record, last: Record) -> str:
    moved = {name: last[name] - first.get(name, last[name]) for name in last}
    name = max(moved, key=lambda key: abs(moved[key]))
    if abs(moved[name]) <= MOVED:
        return " No layer gave weights to another."
    return f" Strokes mark the start: {name} moved most, by {100 * moved[name]:+.1f} points."


def _short(name: str, letters: int = 16) -> str:
    name = name.removesuffix(".weight")
    return name if len(name) <= letters else "…" + name[1 - letters :]
