"""Rivals: the largest inactive entries of a dense gradient G^T X, found without writing it out."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from regrow.execution import native
from regrow.execution.ops import lanes
from regrow.execution.scratch import passing

_SAMPLE = 1 << 16
"""Entries that are looked at first, to guess how large the largest are."""

_MORE = 2.5
"""Entries to look for, in multiples of those wanted: among the largest of the sample, many are active."""


def serves(*activations: Tensor) -> bool:
    """Are these factors, of a product of matrices, ones that the kernels take?"""
    return all(tensor.dim() == 2 for tensor in activations) and native.serves(*activations)


def of_product(grad: Tensor, x: Tensor, active: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest |G^T X| that are not active, and perhaps more: ascending flat positions and sizes.

    Args:
        grad, x: [N, out], [N, in], float32 or bfloat16; the sums are float32.
        active: ascending flat positions [nnz].
        k: at most out * in - nnz.
    """
    grad, x = (lanes(factor.float()) for factor in (grad, x))
    total = grad.shape[1] * x.shape[1]
    apart = max(1, isqrt(total // _SAMPLE))  # rows differ in scale, and so do columns: some of each
    sample = grad[:, ::apart].t() @ x[:, ::apart]
    want, room = _MORE * k + 16, 3 * k + 64
    while True:
        bound = _bound(sample, int(want * sample.numel() / total) + 1)
        position, size = passing(room, active.dtype), passing(room, torch.float32)
        n = native.rivals(grad, x, active, bound, position, size)
        if n > room:
            room = n
        elif n < k and bound >= 0:
            want *= max(2.0, _MORE * k / (n + 1))
        else:
            return position[:n], size[:n]


def _bound(sample: Tensor, rank: int) -> float:
    """What `rank` entries of the sample exceed in size; below 0 if it has not so many."""
    if rank >= sample.numel():
        return -1.0
    return float(native.call("floor", sample, sample.numel(), rank, torch.get_num_threads()))
