"""Tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from regrow.cli.verb import say
from regrow.train.paths import RunFolder

if TYPE_CHECKING:
    from regrow.report.read import Found

WIDE = 160  # columns, where there is no terminal to fit in
Rows = Sequence[dict[str, str]]


def print_table(rows: Rows, left: Sequence[str] = ()) -> None:
    """Rows with equal keys, which are the titles; the columns `left` hold words. What is too wide goes on below."""
    console = Console(markup=False, highlight=False)
    width = console.width if console.is_terminal else WIDE
    console = Console(markup=False, highlight=False, width=width)
    for titles in _fitting(rows, width):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in titles:
            table.add_column(title, justify="left" if title in left else "right", overflow="fold")
        for row in rows:
            table.add_row(*(row[title] for title in titles))
        console.print(table)


def _fitting(rows: Rows, width: int) -> list[list[str]]:
    """The titles in groups that fit `width`; each group begins with the first title, which names the row."""
    first, *others = rows[0]
    size = {title: max(len(title), *(len(row[title]) for row in rows)) + 2 for title in rows[0]}
    groups = [[first]]
    for title in others:
        if len(groups[-1]) > 1 and sum(size[t] for t in groups[-1]) + size[title] > width:
            groups.append([first])
        groups[-1].append(title)
    return groups


def print_comparison(folders: Sequence[RunFolder]) -> None:
    """The runs side by side."""
    from regrow.report.read import gather

    print_found(gather(folders))


def print_found(found: Found) -> None:
    """What could be read side by side; what could not, by name."""
    from regrow.report.compare import cells, compare

    if found.runs:
        print_table([cells(row) for row in compare(found.runs)], left=["runs"])
    for one in found.skipped:
        say(f"left out: {one.path}: {one.reason}", style="yellow")


def gathered(paths: Sequence[Path]) -> Found:
    """The runs of suites, of folders and in folders.

    Raises:
        RegrowError: there is none at a path.
    """
    from regrow.recipe.folders import runs_in
    from regrow.report.read import gather, suite

    folders: list[RunFolder] = []
    values: dict[Path, Mapping[str, Any]] = {}
    for path in paths:
        varied = suite(path)
        values |= varied or {}
        folders += runs_in(path) if varied is None else map(RunFolder, varied)
    return gather(folders, values)
