"""regrow report: a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.tables import gathered
from regrow.cli.verb import say


def report(
    runs: Annotated[Path, typer.Argument(metavar="RUN|SUITE", help="A run, a suite, or a folder with runs below it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the page goes; else report.html in the folder.")
    ] = None,
) -> None:
    """One HTML page that needs no network: accuracy against cost, curves, topology, calibration, tickets, recipes."""
    target = out or runs / "report.html"
    write([runs], runs, target)
    typer.echo(target)


def write(paths: Sequence[Path], root: Path, target: Path) -> None:
    """Write the page of the runs at these paths, which are all in `root`; what cannot be read is left out by name."""
    from regrow.report.page import page
    from regrow.train import atomic

    found = gathered(paths)
    atomic.write(target, page(found, root).encode())
    for one in found.skipped:
        say(f"left out: {one.path}: {one.reason}", style="yellow")
