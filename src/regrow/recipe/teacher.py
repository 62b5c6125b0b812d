"""Teachers of a recipe: the networks of finished runs, as one ensemble; what their answers cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.recipe.distill import DistillSpec
from regrow.recipe.folders import Left, left_by
from regrow.recipe.load import load
from regrow.recipe.schema import Recipe
from regrow.tickets import Ensemble, Ticket
from regrow.tickets.distill import Distillation
from regrow.train import checkpoint, record
from regrow.train.job import Job
from regrow.train.state import restore


class Teacher(nn.Module):
    """The mean probability [B, C] of all members of ensembles."""

    def __init__(self, ensembles: list[Ensemble]) -> None:
        super().__init__()
        self.ensembles = nn.ModuleList(ensembles)
        counts = [ensemble.members_count for ensemble in ensembles]
        self.shares = [count / sum(counts) for count in counts]

    def forward(self, x: Tensor) -> Tensor:
        parts = [share * one(x) for share, one in zip(self.shares, self.ensembles, strict=True)]
        return torch.stack(parts).sum(0)


def distillation_of(spec: DistillSpec, seed: int, data: str, job_of: Callable[[Recipe], Job]) -> Distillation:
    """The loss of `spec`, its teacher in memory.

    Args:
        data: what the student is trained on.
        job_of: a teacher's recipe -> its job.

    Raises:
        RegrowError: no run there, an unfinished one, one trained on other data, a damaged file.
    """
    alike: dict[str, tuple[nn.Module, list[Ticket], str]] = {}  # networks that one ensemble can hold
    for left in teachers(spec, seed):
        recipe = load(left.folder.recipe)
        job = job_of(recipe)
        if job.data.name != data:
            raise RegrowError(f"{left.folder.path} was trained on {job.data.name}: it cannot teach about {data}")
        model, tickets = _networks(left, job)
        backend = "sparse" if recipe.backend == "sparse" and not torch.cuda.is_available() else "masked"
        key = f"{recipe.model} {backend} {[*tickets[0].topology]}"
        alike.setdefault(key, (model, [], backend))[1].extend(tickets)
    ensembles = [Ensemble(model, tickets, backend) for model, tickets, backend in alike.values()]
    held = [[ticket.state, ticket.topology.digest()] for _, tickets, _ in alike.values() for ticket in tickets]
    return Distillation(Teacher(ensembles), spec.temperature, spec.share, checkpoint.digest(held))


def answer_of(spec: DistillSpec, seed: int) -> dict[str, float]:
    """The FLOPs of the teacher's answer to one sample: a forward pass of every network; as counted, and `_executed`."""
    spent = {"": 0.0, "_executed": 0.0}
    for left in teachers(spec, seed):
        told = record.read_json(left.folder.result)["flops"]
        for column in spent:
            spent[column] += max(len(left.tickets), 1) * told[f"inference{column}"]
    return spent


def with_teacher(counted: dict[str, float], answer: dict[str, float], samples: int) -> dict[str, float]:
    """The FLOPs of a run with those of its teacher's answers.

    Args:
        counted: without them.
        answer: `answer_of`.
        samples: seen, each as often as it is.
    """
    spent = {column: samples * flops for column, flops in answer.items()}
    training = {f"training{column}": counted[f"training{column}"] + flops for column, flops in spent.items()}
    ratio = training["training"] / counted["training_dense"]
    return counted | training | {"training_ratio": ratio, "training_teacher": spent[""]}


def teachers(spec: DistillSpec, seed: int) -> list[Left]:
    """What the runs that teach have left.

    Raises:
        RegrowError: no run there, or an unfinished one.
    """
    return [left for path in spec.paths(seed) for left in left_by(path)]


def _networks(left: Left, job: Job) -> tuple[nn.Module, list[Ticket]]:
    """The plain model, and what to put into it."""
    tickets = [Ticket.load(path) for path in left.tickets]
    if not tickets:
        restore(job, left.folder)
        tickets = [Ticket.of(job.model, job.sparsifier or Topology({}, {}))]
    if job.sparsifier:
        job.sparsifier.finalize()
    return job.model, tickets
