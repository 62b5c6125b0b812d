"""Ranks of one run: each decides for itself, and all must decide alike."""

from __future__ import annotations

import torch.distributed as dist

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology


def check_ranks(topology: Topology, step: int) -> None:
    """Every rank must be on the same topology: decided alike, never broadcast.

    Raises:
        RegrowError: they differ.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return
    digests: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(digests, topology.digest())
    if len({*digests}) > 1:
        raise RegrowError(
            f"step {step}: the ranks' topologies differ ({digests}); give all the same seed, start and "
            "method, and wrap the model in DistributedDataParallel so that weights agree"
        )
