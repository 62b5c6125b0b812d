"""Several runs at a time, each in a process of its own that takes up its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from regrow.cli.training import Wanted
from regrow.cli.verb import say
from regrow.core.errors import RegrowError

if TYPE_CHECKING:
    from regrow.train.paths import RunFolder

REGROW = [sys.executable, "-c", "from regrow.cli import main; main()"]


def train_together(wanted: Sequence[Wanted], data_root: Path | None, jobs: int, log: Sequence[str] = ()) -> None:
    """Bring every run to its end, `jobs` at a time, each with its share of the cores.

    Raises:
        RegrowError: under torchrun, whose processes share one run.
        typer.Exit: a run has failed; it has said why, and the others have ended.
    """
    from regrow.recipe.build import job_of
    from regrow.recipe.folders import keep

    if "RANK" in os.environ:
        raise RegrowError(
            "--jobs trains several runs at a time, torchrun one run in several processes: use one of them"
        )
    pending = [(recipe, folder) for recipe, folder in wanted if not folder.finished]
    if not pending:
        return
    job_of(pending[0][0], pending[0][0].seeds[0], data_root)  # what is refused is refused once, before anything is kept
    for recipe, folder in pending:
        keep(recipe, folder)
    pool = ThreadPoolExecutor(jobs)
    try:
        codes = list(pool.map(lambda run: _end(run[1], data_root, jobs, log), pending))
    finally:
        pool.shutdown(cancel_futures=True)
    if any(codes):
        raise typer.Exit(max(codes))


def _end(folder: RunFolder, data_root: Path | None, jobs: int, log: Sequence[str]) -> int:
    """Bring one run to its end; what its process says is passed on line by line."""
    command = [*REGROW, "resume", str(folder.path), *(["--data-root", str(data_root)] if data_root else [])]
    command += [word for name in log for word in ("--log", name)]
    share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=share | os.environ
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            say(line.rstrip())
    return process.returncode
