"""What is exported: the network that a run has trained, or one of its tickets, as a plain model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from regrow.recipe.build import job_of
from regrow.recipe.folders import recipe_in
from regrow.recipe.schema import Recipe
from regrow.tickets import Ticket
from regrow.tickets import load as load_ticket
from regrow.train.data import Data
from regrow.train.paths import RunFolder, is_ticket
from regrow.train.state import restore


@dataclass(frozen=True)
class Trained:
    """A plain model in eval mode, with exact zeros where nothing exists.

    Args:
        name: the run's folder, or the ticket's file.
        ticket: the same network at the size of what exists; None of a dense run.
        data: what it was trained on.
    """

    name: str
    folder: RunFolder
    recipe: Recipe
    model: nn.Module
    ticket: Ticket | None
    data: Data

    @classmethod
    def of(cls, path: Path, data_root: Path | None = None) -> Trained:
        """A run as its checkpoint has it, or the ticket that `path` is, which lies in its run's folder `tickets`.

        Raises:
            RegrowError: no run there, missing data, a damaged file.
        """
        folder = RunFolder.around(path)
        recipe = recipe_in(folder)
        job = job_of(recipe, recipe.seeds[0], data_root)
        ticket = Ticket.load(path) if is_ticket(path) else None
        if ticket is None:
            restore(job, folder)
            if job.sparsifier:
                ticket = Ticket.of(job.model, job.sparsifier, run=folder.path.parent.name)
        if job.sparsifier:
            job.sparsifier.finalize()
        model = load_ticket(ticket, job.model, "masked") if ticket else job.model.eval()
        return cls(str(path), folder, recipe, model, ticket, job.data)
