"""Rivals: the largest inactive entries of a dense gradient, G^T X or of filters, found without writing it out."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor

from regrow.execution import native
from regrow.execution.conv_ops import factors, filter_gradients
from regrow.execution.ops import is_lanes, lanes
from regrow.execution.scratch import passing

_SAMPLE = 1 << 16
"""Entries that are looked at first, to guess how large the largest are."""

_FEW = 1 << 14
"""The same of filters, where looking costs as much as finding. Gradients of less than 16 times as many are written."""

_PANEL = 64
"""Features of x that the kernel lays out together."""

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
    grad, x = lanes(grad.float()), x.float()
    x = x if is_lanes(x) else x.contiguous()
    total = grad.shape[1] * x.shape[1]
    apart = max(1, isqrt(total // _SAMPLE))  # rows differ in scale, and so do columns: some of each
    some, others = grad[:, ::apart].t(), x[:, ::apart]
    sample = passing(some.shape[0] * others.shape[1], torch.float32).view(some.shape[0], -1)
    return _found(grad, x, (), torch.mm(some, others, out=sample), total, active, k)


def of_filters(
    grad: Tensor, x: Tensor, geometry: Sequence[int], active: Tensor, k: int
) -> tuple[Tensor, Tensor] | None:
    """The same in the dense gradient of a convolution's filters, from images [N, out, H', W'] and [N, in, H, W]; None
    where it is as well written."""
    total = grad.shape[1] * x.shape[1] * geometry[0] * geometry[1]
    if total < 16 * _FEW or not native.serves(grad, x):
        return None
    grad, x = factors(grad, x)
    apart = isqrt(total // _FEW)
    sample = filter_gradients(grad[:, ::apart], x[:, ::apart], geometry, slice(None))
    return _found(grad, x, geometry, sample, total, active, k)


def _found(
    grad: Tensor, x: Tensor, geometry: Sequence[int], sample: Tensor, total: int, active: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    want, room = _MORE * k + 16, 3 * k + 64
    while True:
        bound = _bound(sample, int(want * sample.numel() / total) + 1)
        position, size = passing(room, active.dtype), passing(room, torch.float32)
        n = _seek(grad, x, geometry, active, bound, position, size)
        if n > room:
            room = n
            del position, size
        elif n < k and bound >= 0:
            want *= max(2.0, _MORE * k / (n + 1))
        else:
            return position[:n], size[:n]


def _seek(
    grad: Tensor, x: Tensor, geometry: Sequence[int], active: Tensor, bound: float, position: Tensor, size: Tensor
) -> int:
    """The entries that are not active and above the bound in size, ascending, to `position` and `size` [room]: how many
    they are, or, if that is more than the room, room enough."""
    known = active, active.numel(), active.dtype is torch.int64, bound
    room, threads = (position, size, position.numel()), torch.get_num_threads()
    if geometry:
        images = native.sizes(x, grad, geometry), grad, x, x.dtype is torch.bfloat16
        found = native.call("filter_rivals", *images, *known, *room, threads)
    else:
        panels = passing((x.shape[1] + _PANEL) * x.shape[0], torch.float32)
        matrices = grad, grad.shape[1], x, not is_lanes(x), x.shape[1], x.shape[0]
        found = native.call("rivals", *matrices, *known, *room, panels, threads)
    native.done(found < 0)
    return int(found)


def _bound(sample: Tensor, rank: int) -> float:
    """What `rank` entries of the sample exceed in size; below 0 if it has not so many."""
    if rank >= sample.numel():
        return -1.0
    return float(native.call("floor", sample, sample.numel(), rank, torch.get_num_threads()))
