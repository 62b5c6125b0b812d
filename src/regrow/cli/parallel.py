"""Several runs at a time, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer

from regrow.cli.training import Wanted, train
from regrow.cli.verb import REFUSED, say
from regrow.core.errors import RegrowError

DIED = 1


def train_together(wanted: Sequence[Wanted], data_root: Path | None, jobs: int, log: Sequence[str] = ()) -> None:
    """Bring every run to its end, `jobs` at a time, each with its share of the cores.

    Raises:
        RegrowError: under torchrun, whose processes share one run.
        typer.Exit: a run has failed; it has said why, and the others have ended.
    """
    from regrow.lab.crew import Died, together
    from regrow.recipe.build import job_of

    if "RANK" in os.environ:
        raise RegrowError(
            "--jobs trains several runs at a time, torchrun one run in several processes: use one of them"
        )
    pending = [(recipe, folder) for recipe, folder in wanted if not folder.finished]
    if not pending:
        return
    job_of(pending[0][0], pending[0][0].seeds[0], data_root)  # what is refused is refused once, before anything is kept
    codes = []
    for (_, folder), code in together(partial(_end, data_root, log), pending, jobs, hear=say):
        if isinstance(code, Died):
            say(f"{folder.path}: {code}", style="red")
        codes.append(DIED if isinstance(code, Died) else code)
    if any(codes):
        raise typer.Exit(max(codes))


def _end(data_root: Path | None, log: Sequence[str], run: Wanted) -> int:
    """Bring one run to its end, in a worker; the exit code."""
    try:
        train([run], data_root, log)
    except RegrowError as error:
        say(f"{run[1].path}: {error}", style="red")
        return REFUSED
    return 0
