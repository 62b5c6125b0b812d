"""Ranks start alike or not at all: nothing is broadcast, so what differs must be refused (law 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import distributed

from regrow.core.errors import RegrowError
from regrow.train import checkpoint

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from regrow.train.job import Job


def check_agreement(job: Job, fabric: Fabric) -> None:
    """Compare settings, initial weights and topology over the ranks, before DDP would paper over it.

    Raises:
        RegrowError: on every rank, if one differs.
    """
    if fabric.world_size == 1:
        return
    mine = {
        "settings": str(job.identity),
        "plans": str([(phase.steps, phase.explore, phase.evolve, phase.capture) for phase in job.plan]),
        "initial weights": checkpoint.digest(dict(job.model.state_dict())),
        "topologies": job.sparsifier.topology.digest() if job.sparsifier else "dense",
    }
    ranks: list[dict[str, str]] = [{}] * fabric.world_size
    distributed.all_gather_object(ranks, mine)
    for name in mine:
        if len({rank[name] for rank in ranks}) > 1:
            told = "; ".join(f"rank {at}: {rank[name]}" for at, rank in enumerate(ranks))
            raise RegrowError(
                f"the {name} differ between ranks ({told}). Every process must build the same job: the same recipe "
                "and seed, and torch.manual_seed before the model is made."
            )
