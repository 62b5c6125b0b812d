"""Sharded weights (FSDP2's `fully_shard`): each rank holds some rows, and decisions look at one whole layer at a time.

Gathered signals are the same on every rank, so all decide alike, and of the masks each rank keeps its own rows only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, told without importing what makes them."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """This rank's rows, in the same memory; a plain tensor is all its own."""
    mine: Tensor = tensor.detach().to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return mine


def whole(tensor: Tensor) -> Tensor:
    """All rows, gathered on every rank, which all must ask for it; a plain tensor is whole."""
    gathered: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return gathered


def share(full: Tensor, like: Tensor) -> Tensor:
    """The rows of `full` that this rank holds of `like`; nothing is sent."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    return local(distribute_tensor(full, sharded.device_mesh, sharded.placements, src_data_rank=None))


def unfit(tensor: Tensor) -> str:
    """Why masks cannot follow how it is sharded, or nothing."""
    placements = getattr(tensor, "placements", ())
    rows = all(getattr(placement, "dim", None) == 0 for placement in placements)
    return "" if len(placements) <= 1 and rows else f"placed as {placements}"
