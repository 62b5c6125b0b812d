"""Tables of bits: a set that may be dense, a bit for each position of its space, in int64 words."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.core.faster import may_be_faster
from regrow.core.positions import lasting


def none(numel: int, device: torch.device | str = "cpu") -> Tensor:
    """The empty set in a space of `numel`: [words]."""
    return lasting(-(-numel // 64), torch.int64, torch.device(device)).zero_()


@may_be_faster
def mark(table: Tensor, positions: Tensor) -> int:
    """Put these ascending positions [n] into the set; how many are new to it."""
    at = positions.long()
    word, bit = at >> 6, torch.ones_like(at) << (at & 63)
    fresh = (table[word] & bit) == 0
    table.index_add_(0, word[fresh], bit[fresh])  # distinct bits: their sum is their union
    return int(fresh.count_nonzero())


@may_be_faster
def listed(table: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """The n positions of the set, ascending."""
    each = torch.arange(8, dtype=torch.uint8, device=table.device)
    flags = ((table.view(torch.uint8)[:, None] >> each) & 1).view(-1)
    return flags.nonzero().squeeze(1).to(dtype)
