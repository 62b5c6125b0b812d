"""Maxima over windows of images in lanes, as torch knows them: schemas, fakes, autograd. A byte per maximum is kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from regrow.execution import images, native
from regrow.execution.once import once

torch.library.define(
    "regrow::max_pool",
    "(Tensor x, int[] kernel, int[] stride, int[] padding, bool ceil, bool keep) -> (Tensor, Tensor)",
)
torch.library.define(
    "regrow::max_pool_backward",
    "(Tensor grad, Tensor which, SymInt height, SymInt width, int[] kernel, int[] stride, int[] padding) -> Tensor",
)

Pair = Sequence[int]
"""(height, width)"""


def fits(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool) -> bool:
    """Can the kernels pool these images in lanes so, and would torch?"""
    sane = all(s > 0 and 0 <= 2 * p <= k for k, s, p in zip(kernel, stride, padding, strict=True))
    if not (sane and prod(kernel) <= 255 and native.serves(x) and x.numel()):
        return False
    return min(_out(x, kernel, stride, padding, ceil)) > 0


def max_pool(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool) -> Tensor:
    """Of x [N, C, H, W] that `fits`: torch's max_pool2d, bit for bit; in lanes."""
    y: Tensor = torch.ops.regrow.max_pool(x, kernel, stride, padding, ceil, torch.is_grad_enabled())[0]
    return y


def _out(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool) -> list[int]:
    """Windows along each axis: with `ceil` the last may reach out of the image, but not begin behind it."""
    counts = []
    for size, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True):
        count = (size + 2 * p - k + (s - 1 if ceil else 0)) // s + 1
        counts.append(count - 1 if ceil and (count - 1) * s >= size + p else count)
    return counts


def _max(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool, keep: bool) -> tuple[Tensor, Tensor]:
    x = images.as_lanes(x)
    y, which = _max_fake(x, kernel, stride, padding, ceil, keep)
    sizes = native.sizes(x, y, (*kernel, *stride, *padding, 1, 1))
    native.call("max_pool", sizes, x, y, which if keep else None, *_kind(x))
    return y, which


def _gradient(
    grad: Tensor, which: Tensor, height: int, width: int, kernel: Pair, stride: Pair, padding: Pair
) -> Tensor:
    grad = images.as_lanes(grad)
    dx = images.empty(grad, grad.shape[1], height, width)
    sizes = native.sizes(dx, grad, (*kernel, *stride, *padding, 1, 1))
    native.call("max_pool_gradient", sizes, grad, which, dx, *_kind(grad))
    return dx


def _kind(x: Tensor) -> tuple[bool, int]:
    return x.dtype is torch.bfloat16, torch.get_num_threads()


def _max_fake(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, ceil: bool, keep: bool) -> tuple[Tensor, Tensor]:
    y = images.empty(x, x.shape[1], *_out(x, kernel, stride, padding, ceil))
    return y, torch.empty_like(y, dtype=torch.uint8) if keep else x.new_empty(0, dtype=torch.uint8)


def _gradient_fake(grad: Tensor, which: Tensor, height: int, width: int, *_: Pair) -> Tensor:
    return images.empty(grad, grad.shape[1], height, width)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.window, _, _ = inputs
    ctx.size = x.shape[2:]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


@once
def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx = torch.ops.regrow.max_pool_backward(grad, *ctx.saved_tensors, *ctx.size, *ctx.window)
    return dx, None, None, None, None, None


for _name, _run, _fake in (("max_pool", _max, _max_fake), ("max_pool_backward", _gradient, _gradient_fake)):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::max_pool", _backward, setup_context=_save)
