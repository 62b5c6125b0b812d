"""regrow compare: runs side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.tables import gathered, print_found


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN|SUITE...", help="Folders of runs, or with runs below them.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers for programs.")] = False,
) -> None:
    """Accuracy, exploration rate R_s, FLOPs, seconds and bytes against dense, a line per recipe."""
    from regrow.report.compare import compare as side_by_side

    found = gathered(runs)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in side_by_side(found.runs)], indent=2))
    else:
        print_found(found)
