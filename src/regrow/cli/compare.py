"""regrow compare: runs side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.tables import print_comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or with runs below them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers for programs.")] = False,
) -> None:
    """Accuracy, exploration rate R_s, FLOPs, seconds and bytes against dense, a line per recipe."""
    from regrow.recipe.folders import runs_in
    from regrow.report import compare as report

    folders = [folder for path in runs for folder in runs_in(path)]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in report.compare(folders)], indent=2))
    else:
        print_comparison(folders)
