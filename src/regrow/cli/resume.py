"""regrow resume: go on with runs that were stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import DataRoot, Log
from regrow.cli.tables import print_comparison
from regrow.cli.training import leading, train


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one with several below it.")],
    log: Log = None,
    data_root: DataRoot = None,
) -> None:
    """Go on with a stopped run from its checkpoint, to the same end bit for bit."""
    from regrow.recipe.folders import runs_in
    from regrow.recipe.load import load

    plan = [(load(folder.recipe), folder) for folder in runs_in(run)]
    train(plan, data_root, log or ())
    if leading():
        print_comparison([folder for _, folder in plan])
