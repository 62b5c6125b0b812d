"""What is evaluated: the members of one or more runs, from their folders, ready to predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.lab.evaluation.member import Member, device, members_of
from regrow.recipe.build import job_of
from regrow.recipe.folders import recipe_in
from regrow.tickets import Ticket
from regrow.tickets import load as load_ticket
from regrow.train.data import Data
from regrow.train.job import Job
from regrow.train.paths import RunFolder, is_ticket
from regrow.train.state import restore


@dataclass(frozen=True)
class Subject:
    """Networks that answer the same question.

    Args:
        name: of the run, or what the members have in common.
        data: what they were trained on.
        members: of the ensemble.
        others: judged on their own only, such as a superposed ticket.
    """

    name: str
    data: Data
    members: tuple[Member, ...]
    others: tuple[Member, ...] = ()

    @classmethod
    def of(cls, path: Path, data_root: Path | None = None, passes: int = 0) -> Subject:
        """A run's tickets, or its last iterate where it has none; or the one ticket that `path` is.

        Args:
            passes: of the last iterate, with dropout on, as members (MC-dropout).

        Raises:
            RegrowError: no run there, an unfinished one, missing data, a damaged file.
        """
        folder = RunFolder.around(path)
        if is_ticket(path):
            return cls._of(folder, path.name, [path], data_root, passes)
        if not folder.finished:
            raise RegrowError(f"{path} is not finished, so there is nothing to judge. Go on with: regrow resume {path}")
        return cls._of(folder, str(path), folder.tickets(), data_root, passes)

    @classmethod
    def _of(cls, folder: RunFolder, name: str, tickets: Sequence[Path], data_root: Path | None, passes: int) -> Subject:
        recipe = recipe_in(folder)
        job = job_of(recipe, recipe.seeds[0], data_root)
        if not tickets or passes:
            restore(job, folder)
            topology = job.sparsifier.topology if job.sparsifier else None
            model = job.model if device().type == "cpu" else _plain(job)
            return cls(name, job.data, members_of("last", model, topology, passes))
        plain = _plain(job)
        backend = "sparse" if recipe.backend == "sparse" and device().type == "cpu" else "masked"
        found = [_member(path, plain, backend) for path in tickets]
        numbered = tuple(member for member in found if member.name.isdecimal())
        return cls(name, job.data, numbered or tuple(found), tuple(m for m in found if numbered and m not in numbered))

    @classmethod
    def together(cls, subjects: Iterable[Subject]) -> Subject:
        """The members of all as one ensemble.

        Raises:
            RegrowError: they were trained on different data.
        """
        first, *rest = given = list(subjects)
        for other in rest:
            if (other.data.name, other.data.classes) != (first.data.name, first.data.classes):
                raise RegrowError(
                    f"{first.name} was trained on {first.data.name} and {other.name} on {other.data.name}: "
                    "they make no ensemble"
                )
        members = (m for one in given for m in one.members)
        named = tuple(replace(member, name=str(number)) for number, member in enumerate(members))
        more = f" and {len(rest)} more" if rest else ""
        return cls(f"{first.name}{more}", first.data, named)

    @torch.no_grad()
    def predictions(self, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Of members and others: probabilities [M, N, C] and labels [N]."""
        found = [(torch.stack([member.predict(x) for member in (*self.members, *self.others)]), y) for x, y in batches]
        return torch.cat([p for p, _ in found], 1), torch.cat([y for _, y in found])


def _plain(job: Job) -> nn.Module:
    """The job's model as it was before sparse training."""
    if job.sparsifier:
        job.sparsifier.finalize()
    return job.model


def _member(path: Path, plain: nn.Module, backend: str) -> Member:
    ticket = Ticket.load(path)
    return Member.of(path.stem, load_ticket(ticket, deepcopy(plain), backend), ticket.topology)
