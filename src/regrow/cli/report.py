"""regrow report: a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.tables import gathered


def report(
    runs: Annotated[Path, typer.Argument(metavar="RUN|SUITE", help="A run, a suite, or a folder with runs below it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the page goes; else report.html in the folder.")
    ] = None,
) -> None:
    """One HTML page that needs no network: accuracy against cost, curves, topology, calibration, tickets, recipes."""
    typer.echo(str(write(runs, out)))


def write(path: Path, out: Path | None = None) -> Path:
    """Write the page of a folder and say what had to be left out of it; returns where it is."""
    from regrow.report.page import page
    from regrow.train import atomic

    found = gathered([path])
    target = out or path / "report.html"
    atomic.write(target, page(found, path).encode())
    return target
