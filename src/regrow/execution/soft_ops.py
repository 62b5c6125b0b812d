"""Swish of activations in any layout, one pass forward and one backward: schemas, fakes, autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regrow.execution import native
from regrow.execution.once import once

torch.library.define("regrow::swish", "(Tensor x, float beta) -> Tensor")
torch.library.define("regrow::swish_backward", "(Tensor grad, Tensor x, float beta) -> Tensor")


def swish(x: Tensor, beta: float) -> Tensor:
    """y = x sigmoid(beta x) (Ramachandran et al. 2017, arXiv:1710.05941), laid out as x; bfloat16 is rounded once."""
    y: Tensor = torch.ops.regrow.swish(x, beta)
    return y


def _swish(x: Tensor, beta: float) -> Tensor:
    y = torch.empty_like(x)
    if not native.serves(x):
        wide = _wide(x)
        return y.copy_(wide * torch.sigmoid(wide * beta))
    native.call("swish", _laid(x, y), beta, y, *_size(x))
    return y


def _gradient(grad: Tensor, x: Tensor, beta: float) -> Tensor:
    """dx = g s (1 + beta x (1 - s)), s = sigmoid(beta x)"""
    dx = torch.empty_like(x)
    if not native.serves(grad, x):
        steep = _wide(x) * beta
        share = torch.sigmoid(steep)
        return dx.copy_(_wide(grad) * share * (1 + steep * (1 - share)))
    native.call("swish_gradient", _laid(grad, dx), _laid(x, dx), beta, dx, *_size(x))
    return dx


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize == 2 else x


def _laid(x: Tensor, y: Tensor) -> Tensor:
    """x in the order of memory of y, which fills its own densely."""
    return x if x.stride() == y.stride() else torch.empty_like(y).copy_(x)


def _size(x: Tensor) -> tuple[bool, int, int]:
    return x.dtype is torch.bfloat16, x.numel(), torch.get_num_threads()


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.beta = inputs
    ctx.save_for_backward(x)


@once
def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.regrow.swish_backward(grad, *ctx.saved_tensors, ctx.beta), None


for _name, _run, _fake in (
    ("swish", _swish, lambda x, beta: torch.empty_like(x)),
    ("swish_backward", _gradient, lambda grad, x, beta: torch.empty_like(x)),
):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::swish", _backward, setup_context=_save)
