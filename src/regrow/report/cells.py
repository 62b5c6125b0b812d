"""Runs of one recipe together, with a short name and a colour that stay the same all over a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regrow.report.read import Run, as_text, by_recipe
from regrow.report.spread import Spread
from regrow.train.record import Record

COLOURS = 8
LABELS = ("name", "about", "seeds")  # what a recipe is called; the rest is what it is


@dataclass(frozen=True)
class Cell:
    """The runs of one recipe, one per seed.

    Args:
        folder: `<recipe>-<hash8>`.
        label: its name in figures.
        kind: what it has its colour by, such as the method; `colour` 0 is dense.
    """

    folder: str
    label: str
    kind: str
    colour: int
    runs: tuple[Run, ...]

    @property
    def look(self) -> str:
        """Its class in drawings."""
        return f"s{self.colour}"

    @property
    def results(self) -> list[Record]:
        return [run.result for run in self.runs if run.result]

    @property
    def recipe(self) -> Record:
        return self.runs[0].recipe

    @property
    def sparse(self) -> bool:
        return bool(self.recipe.get("method"))

    @property
    def accuracy(self) -> Spread | None:
        """On the test split, over seeds."""
        return self.over("test_accuracy")

    def over(self, key: str) -> Spread | None:
        """A number of the results, over seeds."""
        return Spread.of(result.get(key) for result in self.results)

    def curve(self, key: str) -> list[tuple[int, Spread]]:
        """Epoch by epoch over the seeds that have got so far, from the rows that know it."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            for row in run.rows:
                if row.get(key) is not None:
                    found.setdefault(row["epoch"], []).append(row[key])
        return [(epoch, spread) for epoch in sorted(found) if (spread := Spread.of(found[epoch]))]


def cells(runs: Iterable[Run]) -> list[Cell]:
    """A cell per recipe: dense first, kinds in the order given, the densest first."""
    groups = by_recipe(runs)
    kinds = _kinds([group[0] for group in groups])
    labels = _labels(groups, kinds)
    colours = _colours(zip(kinds, groups, strict=True))
    found = [
        Cell(group[0].name, label, kind, colours[kind], group)
        for group, label, kind in zip(groups, labels, kinds, strict=True)
    ]
    order = {kind: (colours[kind] != 0, number) for number, kind in enumerate(dict.fromkeys(kinds))}
    return sorted(found, key=lambda cell: (order[cell.kind], -(cell.recipe.get("density") or 1.0)))


def best_of_kinds(found: Iterable[Cell], most: int = 8) -> list[Cell]:
    """All of them where there is room for all, else the most accurate cell of each kind, in the order of the page."""
    found = list(found)
    if len(found) <= most:
        return found
    best: dict[str, Cell] = {}
    for cell in found:
        if cell.kind not in best or _accuracy(cell) > _accuracy(best[cell.kind]):
            best[cell.kind] = cell
    return list(best.values())[:most]


def flat(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a recipe, but for what it is called."""
    for key, value in recipe.items():
        if not prefix and key in LABELS:
            continue
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _accuracy(cell: Cell) -> float:
    return cell.accuracy.mean if cell.accuracy else -1.0


def _kinds(firsts: list[Run]) -> list[str]:
    """The recipes' names without what they share, or the methods' where the names tell nothing."""
    names = [run.recipe["name"] for run in firsts]
    if len({*names}) > 1:
        first = _shared([name.split("-") for name in names])
        last = _shared([name.split("-")[first:][::-1] for name in names])
        words = [name.split("-")[first : len(name.split("-")) - last] for name in names]
        return ["-".join(kept) or name for kept, name in zip(words, names, strict=True)]
    methods = [(run.recipe.get("method") or {"name": "dense"})["name"] for run in firsts]
    return methods if len({*methods}) > 1 else names


def _shared(names: list[list[str]]) -> int:
    """How many first words all of them have in common."""
    return next(i for i, word in enumerate([*names[0], ""]) if any(name[i : i + 1] != [word] for name in names))


def _labels(groups: list[tuple[Run, ...]], kinds: list[str]) -> list[str]:
    """Each cell's kind, and what else tells it from others of its kind, density first."""
    facts = [dict(flat(group[0].recipe)) for group in groups]
    labels = list(kinds)
    for kind in dict.fromkeys(kinds):
        same = [i for i, other in enumerate(kinds) if other == kind]
        keys = dict.fromkeys(key for i in same for key in facts[i])
        varied = [key for key in keys if len({as_text(facts[i].get(key)) for i in same}) > 1]
        for key in sorted(varied, key=lambda key: key != "density"):
            if len({labels[i] for i in same}) == len(same):
                break
            for i in same:
                value = facts[i].get(key)
                labels[i] += f" {value:g}" if key == "density" and value else f", {key.rpartition('.')[2]} {value}"
    again = {label for label in labels if labels.count(label) > 1}
    return [
        f"{label} {group[0].name[-8:]}" if label in again else label
        for label, group in zip(labels, groups, strict=True)
    ]


def _colours(kinds: Iterable[tuple[str, tuple[Run, ...]]]) -> dict[str, int]:
    colours: dict[str, int] = {}
    used = 0
    for kind, group in kinds:
        if kind not in colours:
            dense = not group[0].recipe.get("method") and 0 not in colours.values()
            colours[kind] = 0 if dense else 1 + used % COLOURS
            used += not dense
    return colours
