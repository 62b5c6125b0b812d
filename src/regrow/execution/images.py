"""Images in lanes: activations [N, C, H, W] whose memory order is (C, H, W, N), a stride order as channels_last is one.

The convention between the layers of a chain (convolution, normalisation, activation, pooling, addition):

- `is_lanes(x)`: strides (1, H W N, W N, N). Whoever gets that gives that, forward and backward, logical shapes as ever.
- There is no padded buffer to hand over. A convolution lays the tile it works on into a small panel of its own thread,
  with zeros around, and reads the plain image: nothing is copied whole, nothing of padding is saved for backward.
- Gradients come in any strides (torch expands and permutes them): `lanes(grad)` first, free if they are in lanes.
- At the ends of a chain: `lanes(x)` and `rows(x)`, differentiable, one blocked transposition, or free.
- `empty(x, channels, height, width)` is room for a result; an op's fake returns the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regrow.execution import native

torch.library.define("regrow::image_lanes", "(Tensor x) -> Tensor")
torch.library.define("regrow::image_rows", "(Tensor x) -> Tensor")


def is_lanes(x: Tensor) -> bool:
    """Is x [N, C, H, W] in lanes?"""
    return x.permute(1, 2, 3, 0).is_contiguous()


def lanes(x: Tensor) -> Tensor:
    """x [N, C, H, W] in lanes: itself if it is, else one copy, whose gradient is laid out as x is."""
    if is_lanes(x):
        return x
    copy: Tensor = torch.ops.regrow.image_lanes(x)
    return copy


def rows(x: Tensor) -> Tensor:
    """x [N, C, H, W], contiguous (NCHW): itself if it is, else one copy, whose gradient is in lanes if x is."""
    if x.is_contiguous():
        return x
    copy: Tensor = torch.ops.regrow.image_rows(x)
    return copy


def empty(like: Tensor, channels: int, height: int, width: int) -> Tensor:
    """[N, channels, height, width] in lanes, N and type as in `like`."""
    n = like.shape[0]
    return like.new_empty_strided((n, channels, height, width), (1, height * width * n, width * n, n))


def as_lanes(x: Tensor) -> Tensor:
    """`lanes`, for the inside of an op: no autograd."""
    return x if is_lanes(x) else _lanes(x)


def as_rows(x: Tensor) -> Tensor:
    """`rows`, for the inside of an op: no autograd."""
    return x if x.is_contiguous() else _rows(x)


def _lanes(x: Tensor) -> Tensor:
    y = _lanes_fake(x)
    if x.stride()[2:] == (0, 0):  # all pixels alike, as in the gradient of their mean
        return y.copy_(_lanes(x[:, :, :1, :1].contiguous()).expand_as(x))
    if native.serves(x) and x.numel():
        if x.is_contiguous():
            native.transpose(x.flatten(1), y.permute(1, 2, 3, 0).flatten(0, 2))
            return y
        if x.is_contiguous(memory_format=torch.channels_last):
            pixels = x.permute(0, 2, 3, 1)
            turned = x.new_empty(*pixels.shape[1:], len(x))
            native.transpose(pixels.flatten(1), turned.flatten(0, 2))
            return y.copy_(turned.permute(3, 2, 0, 1))
    return y.copy_(x)


def _rows(x: Tensor) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    if is_lanes(x) and native.serves(x) and x.numel():
        native.transpose(x.permute(1, 2, 3, 0).flatten(0, 2), y.flatten(1))
        return y
    return y.copy_(x)


def _lanes_fake(x: Tensor) -> Tensor:
    return empty(x, *x.shape[1:])


def _rows_fake(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x = inputs[0]
    ctx.lanes, ctx.last = is_lanes(x), x.is_contiguous(memory_format=torch.channels_last)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    if ctx.lanes:
        return lanes(grad)
    return grad.contiguous(memory_format=torch.channels_last) if ctx.last else rows(grad)


for _name, _run, _fake in (("image_lanes", _lanes, _lanes_fake), ("image_rows", _rows, _rows_fake)):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
    torch.library.register_autograd(f"regrow::{_name}", _backward, setup_context=_setup)
