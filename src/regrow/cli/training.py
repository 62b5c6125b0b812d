"""What run, resume and demo share: one run after another, watched, each from where it stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from regrow.cli.progress import watched
from regrow.cli.verb import INTERRUPTED, say

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from regrow.recipe.schema import Recipe
    from regrow.train.job import Job
    from regrow.train.paths import RunFolder

Wanted = tuple["Recipe", "RunFolder"]  # the recipe's first seed is the run's


def leading() -> bool:
    """Whether this is the one process, of those torchrun started, that speaks."""
    return int(os.environ.get("RANK", 0)) == 0


def train(wanted: Sequence[Wanted], data_root: Path | None, log: Sequence[str] = ()) -> None:
    """Bring every run to its end, told to trackers; a finished one costs nothing. Ctrl-C says how to go on."""
    for _, folder in wanted:
        if folder.finished and leading():
            say(f"{folder.path}: finished{_other_commit(folder)}")
    pending = [(recipe, folder) for recipe, folder in wanted if not folder.finished]
    for precision, alike in groupby(pending, key=lambda run: run[0].precision):
        _train_all(list(alike), precision, data_root, log)


def _train_all(pending: Sequence[Wanted], precision: str, data_root: Path | None, log: Sequence[str]) -> None:
    from regrow.train.devices import launched

    with launched(precision=precision) as fabric:
        for recipe, folder in pending:
            try:
                _train(recipe, folder, data_root, fabric, log if leading() else ())
            except KeyboardInterrupt:
                say(f"\nstopped; what was done is kept. Go on with: regrow resume {folder.path}")
                raise typer.Exit(INTERRUPTED) from None


def _train(recipe: Recipe, folder: RunFolder, data_root: Path | None, fabric: Fabric, log: Sequence[str]) -> None:
    from regrow.recipe.build import job_of
    from regrow.recipe.folders import keep
    from regrow.train.loop import Progress, fit
    from regrow.train.sinks import logged

    job = job_of(recipe, recipe.seeds[0], data_root)
    if leading() and (shorter := keep(recipe, folder)):  # only now: a refused recipe leaves nothing behind
        say(f"{folder.path}: goes on where {shorter.path} has got to")
    title = f"{recipe.name}{'' if recipe.density is None else f' {recipe.density:g}'} seed {recipe.seeds[0]}"
    settings = recipe.model_dump(mode="json")
    with (
        watched(title, Console(stderr=True), _dense_epoch(job, folder)) as show,
        logged(log, folder, settings) as keep_too,
    ):

        def tell(progress: Progress) -> None:
            show(progress)
            keep_too(progress)

        fit(job, folder, fabric, tell, on_difference=lambda words: say(words, style="yellow"))


def _dense_epoch(job: Job, folder: RunFolder) -> float | None:
    """Seconds per epoch of the dense runs beside this one, of its size, data, batch and surroundings."""
    from regrow.report.pace import dense_epoch

    if job.sparsifier is None:
        return None
    unheld = (
        job.sparsifier.topology.numel - job.sparsifier.topology.nnz if job.sparsifier.backend_name == "sparse" else 0
    )
    parameters = sum(p.numel() for p in job.model.parameters()) + unheld
    like = {"data": job.data.name, "batch_size": job.batch_size, "parameters": parameters}
    return dense_epoch(folder.path.parent.parent, like | ({"threads": job.threads} if job.threads else {}))


def _other_commit(folder: RunFolder) -> str:
    """In words, if the run was made by another commit than this one."""
    from regrow.train.record import read_json
    from regrow.train.surroundings import commit

    then, now = read_json(folder.environment)["commit"] if folder.environment.exists() else None, commit()
    return f", by another commit ({then}, now {now})" if then and now and then != now else ""
