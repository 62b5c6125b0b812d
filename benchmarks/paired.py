"""Two ways of doing the same against a limit, and the dated files that keep what was measured.

A limit is on the median of the paired ratios. "ok": its whole 95 % interval keeps the limit; "ok by the median": the
median does, the interval reaches beyond; "MISSED": the median does not.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol, TypeVar

from regrow.lab import paired as lab
from regrow.lab.machine import Neighbours, machine
from regrow.lab.paired import Task, in_turn
from regrow.train.record import Record

__all__ = ["Cell", "Comparison", "Task", "environment", "keep", "kept", "paired", "report"]

RESULTS = Path(__file__).parent / "results"
NEIGHBOURS = Neighbours()
"""Of the whole benchmark, from here on."""


class Cell(Protocol):
    """A frozen dataclass: what was measured, and a line that says whether it is within its limit."""

    def line(self) -> str: ...


@dataclass(frozen=True)
class Comparison:
    """`ours` against `theirs`, seconds per call in each round; the median of their ratio must be within the limit."""

    name: str
    ours: list[float]
    theirs: list[float]
    limit: float

    @property
    def ratio(self) -> float:
        return lab.ratio(self.ours, self.theirs).median

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median ratio."""
        found = lab.ratio(self.ours, self.theirs)
        return found.low, found.high

    def line(self) -> str:
        low, high = self.interval
        verdict = "ok" if high <= self.limit else "ok by the median" if self.ratio <= self.limit else "MISSED"
        times = f"{statistics.median(self.ours) * 1e3:9.3f} ms against {statistics.median(self.theirs) * 1e3:9.3f} ms"
        ratio = f"{self.ratio:5.3f}x [{low:.3f}, {high:.3f}]"
        return f"{self.name:<58} {times}   {ratio}  limit {self.limit:.3g}x  {verdict}"


def paired(name: str, ours: Task, theirs: Task, limit: float, rounds: int = 41, calls: int = 1) -> Comparison:
    """Time both in turn, `calls` calls a turn; which goes first alternates, so that drift falls on both."""
    return Comparison(name, *in_turn((ours, theirs), rounds, calls), limit)


def environment() -> Record:
    """Where a number was measured. A machine with other work on it says so."""
    return {**machine(), "busy": NEIGHBOURS.busy, "others": NEIGHBOURS.cores}


def report(name: str, cells: Sequence[Cell]) -> None:
    """Print the lines and keep raw repeats as a dated pair of files."""
    where = environment()
    lines = [cell.line() for cell in cells]
    title = f"{name}, {where['date']}, {where['cpu']}, {where['threads']} threads, torch {where['versions']['torch']}"
    if warning := NEIGHBOURS.warning():
        title += f"  ({warning})"
    print("\n".join([title, *lines]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{name}_{where['threads']}threads_{where['date']}"
    content = {"where": where, "cells": [asdict(cell) for cell in cells]}  # type: ignore[call-overload]
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1))
    stem.with_suffix(".md").write_text("\n".join([f"# {title}", "", "```", *lines, "```", ""]))


Kept = TypeVar("Kept", bound=Comparison)


def keep(name: str, cell: Kept, *kinds: type[Kept]) -> None:
    """Report it beside the cells of these kinds that were measured on the same day with as many threads."""
    before = [each for each in kept(name, *kinds) if each.name != cell.name]
    report(name, sorted([*before, cell], key=lambda each: each.name))


def kept(name: str, *kinds: type[Kept]) -> list[Kept]:
    """Cells that `keep` has kept today: each is of the kind that has its fields."""
    where = environment()
    file = RESULTS / f"{name}_{where['threads']}threads_{where['date']}.json"
    cells = json.loads(file.read_text())["cells"] if file.exists() else []
    return [kind(**cell) for cell in cells for kind in kinds if cell.keys() == {field.name for field in fields(kind)}]
