"""Convolutions in groups (depthwise ones among them) as one over all channels, in which what is between groups misses.

That is no detour: the kernels touch nothing that is missing, and images stay in lanes. Of a whole depthwise layer they
need less time than torch's own convolution.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from regrow.core.topology import Shape
from regrow.execution.index import Index


def spread(at: Tensor, shape: Shape, groups: int) -> Tensor:
    """Flat positions in a weight [O, C / groups, kh, kw], as they are in [O, C, kh, kw]."""
    return at if groups == 1 else at.long() + _before(at // prod(shape[1:]), shape, groups)


def gathered(at: Tensor, shape: Shape, groups: int) -> Tensor:
    """The way back."""
    return at if groups == 1 else at - _before(at // (groups * prod(shape[1:])), shape, groups)


def _before(row: Tensor, shape: Shape, groups: int) -> Tensor:
    """How many more entries lie before a position in this row."""
    row = row.long()
    return ((groups - 1) * row + row // (shape[0] // groups)) * prod(shape[1:])


@lru_cache(maxsize=256)
def whole(shape: Shape, groups: int) -> Index:
    """The index of a layer of which nothing else is missing."""
    out, *rest = shape
    return Index.of(spread(torch.arange(prod(shape)), shape, groups), (out, groups * prod(rest)))
