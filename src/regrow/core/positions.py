"""Sets of positions: ascending, distinct flat indices. The algebra costs O(n log n) in the set, not in the space.

What is marked `may_be_faster` costs O(n) on the kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from regrow.core.faster import may_be_faster

_CROWDED, _FULL = 128, 12
"""A table of marks pays while it has at most this many places per position: to look up, and to list."""


def dtype_for(numel: int) -> torch.dtype:
    """int32 while every position of a space of `numel` fits, int64 past 2^31."""
    return torch.int32 if numel <= 2**31 - 1 else torch.int64


@may_be_faster
def ascend(positions: Tensor, numel: int) -> bool:
    """Is each higher than the one before, and all in range(numel)?"""
    if positions.numel() == 0:
        return True
    return bool(positions[0] >= 0) and bool(positions[-1] < numel) and bool((positions[1:] > positions[:-1]).all())


@may_be_faster
def room(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[n], uninitialised: for what is soon forgotten, and may be large."""
    return torch.empty(n, dtype=dtype, device=device)


@may_be_faster
def lasting(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[n], uninitialised: for what stays until the next of its size takes its place."""
    return torch.empty(n, dtype=dtype, device=device)


def settled(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy that stays."""
    return lasting(positions.numel(), dtype, positions.device).copy_(positions)


@may_be_faster
def only(values: Tensor, flags: Tensor, n: int) -> Tensor:
    """values[flags], for a moment; n of the flags, bool, are set."""
    return values[where(flags)]


def unset(flags: Tensor) -> Tensor:
    """Those that are not set, for a moment."""
    return torch.logical_not(flags, out=room(flags.numel(), flags.dtype, flags.device))


def where(flags: Tensor) -> Tensor:
    """The ascending positions, int64, at which `flags` [n] holds.

    On the CPU numpy finds them, whose search has no branches to mispredict: 2 to 12 times faster than torch's.
    """
    if flags.device.type == "cpu":
        return torch.from_numpy(flags.numpy().nonzero()[0])
    return flags.nonzero().squeeze(1)


class Match(NamedTuple):
    """Two sets side by side: which of the old positions `stay` in the new set, bool; which of the new ones were `known`
    to the old set; how many are in both."""

    stay: Tensor
    known: Tensor
    both: int

    def without(self, some: Tensor, old: Tensor, new: Tensor) -> Match:
        """The same of the sets `old` and `new`, as if `some` positions of both were not the same ones."""
        stay, known = (flags & ~contains(some, at) for flags, at in ((self.stay, old), (self.known, new)))
        return Match(stay, known, int(stay.count_nonzero()))


@may_be_faster
def match(old: Tensor, new: Tensor) -> Match:
    """The new set beside the old one."""
    stay, known = contains(new, old), contains(old, new)
    return Match(stay, known, int(stay.count_nonzero()))


@may_be_faster
def carry(values: Tensor, match: Match, fresh: float, into: Tensor | None = None) -> Tensor:
    """A vector over old positions, over the new ones: `fresh` where there was none.

    Written `into` another vector, if one is given: or into itself, where there are as many.
    """
    kept = values[where(match.stay)]
    carried = values.new_full((match.known.numel(),), fresh) if into is None else into.fill_(fresh)
    carried[where(match.known)] = kept
    return carried


def common(a: Tensor, b: Tensor) -> int:
    """How many positions are in both."""
    return match(a, b).both


@may_be_faster
def contains(positions: Tensor, queries: Tensor) -> Tensor:
    """Bool per query (of another set): is it in the set?"""
    if positions.numel() == 0:
        return torch.zeros_like(queries, dtype=torch.bool)
    if (span := _span(positions, queries, _CROWDED)) is not None:
        return _marks(span, positions)[queries.long()]
    at = torch.searchsorted(positions, queries.to(positions.dtype)).clamp_(max=positions.numel() - 1)
    return positions[at] == queries


def difference(a: Tensor, b: Tensor) -> Tensor:
    """The positions of `a` that are not in `b`, for a moment."""
    sets = match(b, a)
    return only(a, unset(sets.known), a.numel() - sets.both)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """The positions in both, for a moment."""
    sets = match(b, a)
    return only(a, sets.known, sets.both)


@may_be_faster
def union(a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    """The positions in either, in the type of `a`; written `into` a tensor as long as both, if one is given."""
    if into is not None:
        both = union.__wrapped__(a, b)  # type: ignore[attr-defined]
        return into[: both.numel()].copy_(both)
    if (span := _span(a, b, _FULL)) is not None:
        return where(_marks(span, a, b)).to(a.dtype)
    return distinct(torch.cat([a, b.to(a.dtype)]))


@may_be_faster
def joined(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The positions of two disjoint sets, and the values that belong to them, for a moment."""
    both = union(a, b)
    ours = contains(a, both)
    return both, x.new_empty(both.numel()).masked_scatter_(ours, x).masked_scatter_(~ours, y)


@may_be_faster
def reaching(values: Tensor, bound: float) -> tuple[Tensor, int]:
    """Which values are in size not below the bound (a NaN is not), for a moment, and how many."""
    flags = ~(values.abs() < bound)
    return flags, int(flags.count_nonzero())


@may_be_faster
def distinct(positions: Tensor) -> Tensor:
    """These positions in ascending order, each once. They are sorted in place."""
    if positions.device.type == "cpu":
        positions.numpy().sort()
    else:
        positions = positions.sort().values
    fresh = positions[1:] != positions[:-1]
    return positions if bool(fresh.all()) else torch.cat([positions[:1], positions[1:][where(fresh)]])


def _span(a: Tensor, b: Tensor, places: int) -> int | None:
    """The space both lie in, if they fill it well enough for a table of marks to be the faster way."""
    span = max((int(t[-1]) + 1 for t in (a, b) if t.numel()), default=0)
    return span if span <= places * (a.numel() + b.numel()) else None


def _marks(span: int, *sets: Tensor) -> Tensor:
    table = torch.zeros(span, dtype=torch.bool, device=sets[0].device)
    for positions in sets:
        table.index_fill_(0, positions.long(), True)
    return table


@may_be_faster
def absent(positions: Tensor, ranks: Tensor) -> Tensor:
    """The `ranks`-th (ascending, int64) positions that are not in the set, counted from 0, without listing those."""
    before = torch.arange(positions.numel(), dtype=positions.dtype, device=positions.device)
    gaps = torch.sub(positions, before, out=before)  # absentees before each member
    return ranks + torch.searchsorted(gaps, ranks.to(gaps.dtype), right=True).to(ranks.dtype)


def sample_absent(positions: Tensor, numel: int, n: int, generator: Generator) -> Tensor:
    """n distinct positions of range(numel) outside the set, uniformly at random, ascending. Exactly n."""
    ranks = sample(numel - positions.numel(), n, generator).to(positions.device)
    return absent(positions, ranks).to(positions.dtype)


def sample(numel: int, n: int, generator: Generator) -> Tensor:
    """n distinct elements of range(numel), uniformly at random, ascending; drawn on the CPU for every device."""
    if n > numel:
        raise ValueError(f"cannot sample {n} of {numel} positions")
    if 4 * n >= numel:
        return distinct(torch.randperm(numel, generator=generator)[:n].to(dtype_for(numel)))
    found = distinct(draws(numel, n, generator))
    while found.numel() < n:  # the first n distinct draws of a uniform stream are a uniform n-subset
        more = distinct(draws(numel, n - found.numel(), generator))
        found = union(found, more, room(found.numel() + more.numel(), found.dtype, found.device))
    return found


@may_be_faster
def draws(numel: int, n: int, generator: Generator) -> Tensor:
    """n numbers of range(numel)."""
    return torch.randint(numel, (n,), generator=generator, out=room(n, dtype_for(numel), generator.device))
