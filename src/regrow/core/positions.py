"""Sets of positions: ascending, distinct flat indices. The algebra costs O(n log n) in the set, not in the space."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

_CROWDED = 128
"""A table of marks pays while it has at most this many places per position."""


def dtype_for(numel: int) -> torch.dtype:
    """int32 while every position of a space of `numel` fits, int64 past 2^31."""
    return torch.int32 if numel <= 2**31 - 1 else torch.int64


def where(flags: Tensor) -> Tensor:
    """The ascending positions, int64, at which `flags` [n] holds.

    On the CPU numpy finds them, whose search has no branches to mispredict: 2 to 12 times faster than torch's.
    """
    if flags.device.type == "cpu":
        return torch.from_numpy(flags.numpy().nonzero()[0])
    return flags.nonzero().squeeze(1)


def ascending(positions: Tensor) -> Tensor:
    """The order [n] in which distinct positions ascend. On the CPU by numpy, five times faster than torch."""
    if positions.device.type == "cpu":
        return torch.from_numpy(positions.numpy().argsort())
    return positions.argsort()


def contains(positions: Tensor, queries: Tensor) -> Tensor:
    """Bool per query: is it in the set?"""
    if positions.numel() == 0:
        return torch.zeros_like(queries, dtype=torch.bool)
    if (span := _span(positions, queries)) is not None:
        return _marks(span, positions)[queries.long()]
    at = torch.searchsorted(positions, queries.to(positions.dtype)).clamp_(max=positions.numel() - 1)
    return positions[at] == queries


def difference(a: Tensor, b: Tensor) -> Tensor:
    """The positions of `a` that are not in `b`."""
    return a[where(~contains(b, a))]


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """The positions in both."""
    return a[where(contains(b, a))]


def union(a: Tensor, b: Tensor) -> Tensor:
    """The positions in either, in the type of `a`."""
    if (span := _span(a, b)) is not None:
        return where(_marks(span, a, b)).to(a.dtype)
    fresh = difference(b, a)  # a merge: each element is placed by its rank in the other set
    out = torch.empty(a.numel() + fresh.numel(), dtype=a.dtype, device=a.device)
    out[torch.arange(a.numel(), device=a.device) + torch.searchsorted(fresh, a)] = a
    out[torch.arange(fresh.numel(), device=a.device) + torch.searchsorted(a, fresh)] = fresh.to(a.dtype)
    return out


def _span(a: Tensor, b: Tensor) -> int | None:
    """The space both lie in, if they fill it well enough for a table of marks to be the faster way."""
    span = max((int(t[-1]) + 1 for t in (a, b) if t.numel()), default=0)
    return span if span <= _CROWDED * (a.numel() + b.numel()) else None


def _marks(span: int, *sets: Tensor) -> Tensor:
    table = torch.zeros(span, dtype=torch.bool, device=sets[0].device)
    for positions in sets:
        table.index_fill_(0, positions.long(), True)
    return table


def absent(positions: Tensor, ranks: Tensor) -> Tensor:
    """The `ranks`-th positions that are not in the set, counted from 0, without listing the complement."""
    gaps = positions.long() - torch.arange(positions.numel(), device=positions.device)  # absentees before each member
    return ranks + torch.searchsorted(gaps, ranks, right=True)


def sample_absent(positions: Tensor, numel: int, n: int, generator: Generator) -> Tensor:
    """n distinct positions of range(numel) outside the set, uniformly at random, ascending. Exactly n."""
    ranks = sample(numel - positions.numel(), n, generator).to(positions.device)
    return absent(positions, ranks)


def sample(numel: int, n: int, generator: Generator) -> Tensor:
    """n distinct elements of range(numel), uniformly at random, ascending; drawn on the CPU for every device."""
    if n > numel:
        raise ValueError(f"cannot sample {n} of {numel} positions")
    if 4 * n >= numel:
        return torch.randperm(numel, generator=generator)[:n].sort().values
    drawn = torch.empty(0, dtype=torch.int64)
    while drawn.numel() < n:  # the first n distinct draws of a uniform stream are a uniform n-subset
        fresh = torch.unique(torch.randint(numel, (n - drawn.numel(),), generator=generator))
        drawn = union(drawn, fresh)
    return drawn
