"""Ablations: what each choice is worth, where runs differ in nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from regrow.report.cells import LABELS, Cell, flat
from regrow.report.figure import Figure, Section
from regrow.report.plot import WIDTH, Plot
from regrow.report.read import as_text
from regrow.report.spread import Spread

SHOWN = 12  # factors
BARS = 10  # of a factor
ROOM = 17  # letters of a bar's name
PLAIN = ("none", "static")  # what others are compared with, where it is there

Facts = Mapping[str, Any]


def choices(cells: Sequence[Cell]) -> Section | None:
    """A figure per factor that varies while all else is equal."""
    known = [cell for cell in cells if cell.results]
    facts = _facts(known)
    factors = list(dict.fromkeys(key for found in facts for key in found))
    figures = [figure for key in factors if (figure := _factor(key, known, facts))][:SHOWN]
    about = "Every bar compares runs that differ in this one choice and in nothing else, seed by seed."
    return Section("choices", "What each choice is worth", about, figures) if figures else None


def _facts(cells: Sequence[Cell]) -> list[Facts]:
    """What varies: a suite's dotted keys, else the parts of recipes that differ."""
    suites = [cell.runs[0].values for cell in cells]
    if suites and all(suites):
        return [{key: _filled(cell, key) for key in dict.fromkeys(k for s in suites for k in s)} for cell in cells]
    keys = dict.fromkeys(key for cell in cells for key in cell.recipe if key not in LABELS)
    varied = [key for key in keys if len({as_text(cell.recipe.get(key)) for cell in cells}) > 1]
    return [{key: cell.recipe.get(key) for key in varied} for cell in cells]


def _filled(cell: Cell, key: str) -> Any:
    """A value of a suite; where it gives none, the recipe's."""
    if key in cell.runs[0].values:
        return cell.runs[0].values[key]
    found: Any = cell.recipe
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _factor(key: str, cells: Sequence[Cell], facts: Sequence[Facts]) -> Figure | None:
    groups: dict[str, dict[str, Cell]] = {}
    for cell, found in zip(cells, facts, strict=True):
        rest = as_text({k: v for k, v in found.items() if k != key})
        groups.setdefault(rest, {})[as_text(found[key])] = cell
    paired = [group for group in groups.values() if len(group) > 1]
    counts = Counter(value for group in paired for value in group)
    if not counts:
        return None
    names = _names({as_text(found[key]): found[key] for found in facts if as_text(found[key]) in counts})
    plain = [value for value in counts if names[value] in PLAIN]
    reference = plain[0] if plain else counts.most_common(1)[0][0]
    gains = {
        names[value]: spread
        for value in counts
        if value != reference and (spread := Spread.of(_differences(paired, reference, value)))
    }
    return _drawn(key, names[reference], dict(list(gains.items())[:BARS])) if gains else None


def _differences(paired: Sequence[Mapping[str, Cell]], reference: str, name: str) -> list[float]:
    """Accuracy with `name` less that with the reference, of every pair of runs of one seed."""
    found = []
    for group in paired:
        if reference in group and name in group:
            one, other = (
                {run.seed: run.result["test_accuracy"] for run in group[which].runs if run.result}
                for which in (name, reference)
            )
            seeds = [s for s in one.keys() & other.keys() if one[s] is not None and other[s] is not None]
            found += [one[seed] - other[seed] for seed in seeds]
    return found


def _drawn(key: str, reference: str, gains: Mapping[str, Spread]) -> Figure:
    step = 26.0
    plot = Plot(left=104, right=62, height=52 + step * len(gains))
    edges = [100 * edge for s in gains.values() for edge in (s.mean - s.half, s.mean + s.half, 0.0)]
    plot.axes(edges, [0, 1])
    plot.x_axis("accuracy, percentage points →")
    zero = plot.x.at(0)
    plot.rule(f"M{zero:.1f} {plot.top:.1f}V{plot.bottom:.1f}", "zero")
    for number, (name, spread) in enumerate(gains.items()):
        y, to = plot.top + step * (number + 0.5), plot.x.at(100 * spread.mean)
        look = "better" if spread.mean > 0 else "worse"
        told = f"{name}: {100 * spread.mean:+.2f} points over {spread.n} pairs"
        plot.rect(min(zero, to), y - 7, abs(to - zero), 14, f"bar {look}", told)
        if spread.half:
            low, high = (plot.x.at(100 * (spread.mean + sign * spread.half)) for sign in (-1, 1))
            plot.mark(f"M{low:.1f} {y:.1f}H{high:.1f}", "whisker ink")
        plot.text(plot.left - 8, y + 3.8, name[:ROOM], "end")
        plot.text(WIDTH - 2, y + 3.8, f"{100 * spread.mean:+.2f}", "end")
    best = max(gains, key=lambda name: gains[name].mean)
    sign = "gains" if gains[best].mean > 0 else "loses least," if len(gains) > 1 else "loses"
    pairs = sum(spread.n for spread in gains.values())
    sure = " Lines: 95 % interval." if any(s.half for s in gains.values()) else ""
    points = f"{abs(100 * gains[best].mean):.2f} points"
    caption = f"Against {reference}, {pairs} pair{'s' * (pairs > 1)} of runs: {best} {sign} {points}.{sure}"
    title = f"{key.capitalize()}: against {reference}"
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _names(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value in a word or two, different for different values."""
    names = {text: _name(value) for text, value in values.items()}
    for name in [name for name, count in Counter(names.values()).items() if count > 1]:
        alike = [text for text in names if names[text] == name]
        leaves = {text: dict(flat({"": values[text]})) for text in alike}
        varied = [leaf for leaf in leaves[alike[0]] if len({as_text(leaves[text].get(leaf)) for text in alike}) > 1]
        for text in alike:
            told = ", ".join(f"{leaf.rpartition('.')[2]} {leaves[text].get(leaf)}" for leaf in varied[:2])
            names[text] = f"{name}, {told}" if told else f"{name} {alike.index(text) + 1}"
    return names


def _name(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name", "as set"))
    if isinstance(value, list):
        joined = ", ".join(map(_name, value))
        return joined or "none" if len(joined) < ROOM else f"{len(value)} of them"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
