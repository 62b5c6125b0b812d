"""How a suite is watched: a live table on a terminal, a line for each run elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from regrow.cli.progress import words

if TYPE_CHECKING:
    from regrow.lab.suite import Course, Tell
    from regrow.recipe.suite import Entry

SAY_THEMSELVES = ("analysis", "case", "name", "method")
SHOWN = 8  # ended runs in the table
REFRESH = 2  # times a second


def told(values: dict[str, Any]) -> str:
    """`interval 190, sparsity 0.95`: dotted keys by their last part, where that is enough."""
    last = [key.rpartition(".")[2] for key in values]
    names = [short if last.count(short) == 1 else key for key, short in zip(values, last, strict=True)]
    shown = (value if isinstance(value, str) else json.dumps(value) for value in values.values())
    return ", ".join(
        value if name in SAY_THEMSELVES else f"{name} {value}" for name, value in zip(names, shown, strict=True)
    )


@contextmanager
def watched(course: Course, console: Console) -> Iterator[Tell]:
    """What the suite tells its runs to, as they end."""
    board = _Board(course)
    if console.is_terminal:
        with Live(get_renderable=board.table, console=console, refresh_per_second=REFRESH):
            yield board.end
        return

    def line(entry: Entry, failure: str | None) -> None:
        board.end(entry, failure)
        last = board.ended[-1]
        text = f"{board.count()}  {last[0]}: {last[1]} ({board.pace()})"
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    yield line


class _Board:
    def __init__(self, course: Course) -> None:
        self.course = course
        self.ended: list[tuple[str, str]] = []

    def end(self, entry: Entry, failure: str | None) -> None:
        self.ended.append((told(entry.values), self._result(entry) if failure is None else f"FAILED: {failure}"))

    def _result(self, entry: Entry) -> str:
        from regrow.train.record import read_json

        result = read_json(self.course.run_of(entry).result)
        accuracy, explored = result["test_accuracy"], result["exploration_rate"]
        tested = "no test split" if accuracy is None else f"test {100 * accuracy:.2f} %"
        return tested + ("" if result["density"] == 1 else f", R_s {explored:.3f}")

    def count(self) -> str:
        """Runs that have ended, of those of the suite."""
        course = self.course
        total, left = {entry.folder for entry in course.entries}, course.missing(course.entries)
        pending = [entry for entry in left if entry.folder not in course.failures]
        return f"{len(total) - len(pending)}/{len(total)}"

    def pace(self) -> str:
        """Rate and remaining time."""
        course = self.course
        if course.remaining is None:
            return "no run has ended yet"
        return f"{60 * len(course.ended) / course.seconds:.1f} runs/min, {_clock(course.remaining)} left"

    def table(self) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("run", overflow="fold")
        table.add_column("", overflow="fold")
        for name, result in [*self.ended[-SHOWN:], *self._under_way()]:
            table.add_row(Text(name), Text(result))
        failed = f", {len(self.course.failures)} failed" if self.course.failures else ""
        return Group(table, Text(f"{self.count()} runs{failed}, {self.pace()}"))

    def _under_way(self) -> Iterator[tuple[str, str]]:
        from regrow.train.record import rows

        for entry in self.course.missing(self.course.entries):
            if entry.folder not in self.course.failures and (past := rows(self.course.run_of(entry))):
                yield told(entry.values), f"epoch {past[-1]['epoch']}/{entry.recipe.total_epochs} {words(past[-1])}"


def _clock(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"
