"""regrow results: the ledger as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def results(
    ledger: Annotated[Path, typer.Option("--ledger", metavar="DIR", help="Where suites wrote their results.")] = Path(
        "results"
    ),
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The page.")] = Path("docs/results.md"),
) -> None:
    """Render the results ledger into docs/results.md: what was measured, and what papers report, each in its tables."""
    from regrow.core.errors import RegrowError
    from regrow.lab import ledger as ledgers
    from regrow.lab import reported
    from regrow.lab.results import render
    from regrow.train import atomic

    if not ledger.is_dir():
        raise RegrowError(f"--ledger {ledger}: no such folder. `regrow suite SUITE --ledger` writes one.")
    files, tables = ledgers.read(ledger), reported.read(ledger / reported.REPORTED.name)
    atomic.write(to, render(files, tables).encode())
    typer.echo(f"{to}: suites measured: {len(files)}, tables reported: {len(tables)}.")
