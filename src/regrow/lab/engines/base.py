"""What every engine does, and the one function that all of them call."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from regrow.core.errors import RegrowError
from regrow.recipe.build import job_of
from regrow.recipe.folders import keep
from regrow.recipe.schema import Recipe
from regrow.train.devices import launched, threads
from regrow.train.loop import fit
from regrow.train.paths import RunFolder
from regrow.train.record import Record


@dataclass(frozen=True)
class Task:
    """One run to bring to its end, on at most `threads` CPU threads. It travels between processes."""

    recipe: Recipe
    folder: RunFolder
    data_root: Path | None
    threads: int
    device: str = "auto"


Outcome = tuple[Task, str | None]  # what went wrong, if anything did


class Engine(Protocol):
    """Several runs at a time. Every process and machine sees the same run folders."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Each task as it ends; one that fails does not stop the others. When the iterator is closed, so are they."""


def work(task: Task) -> str | None:
    """Train a run, or what is left of it; what went wrong, in a paragraph."""
    try:
        with threads(task.threads):
            train(task)
    except RegrowError as error:
        return str(error)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    return None


def train(task: Task) -> Record:
    """What the run has come to, as `fit` says it, when it is new or goes on.

    Raises:
        RegrowError: the recipe is refused, or its training.
    """
    recipe = task.recipe
    job = job_of(recipe, recipe.seeds[0], task.data_root)
    keep(recipe, task.folder)  # only now: a refused recipe leaves nothing behind
    share = min(job.threads or task.threads, task.threads)
    with launched(task.device, recipe.precision) as fabric:
        return fit(replace(job, threads=share), task.folder, fabric)
