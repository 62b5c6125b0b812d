"""Batch normalisation of activations in lanes, with what follows it, as torch knows it: schemas, fakes, autograd.

The sum with a shortcut and the ReLU that come after it are done in the same passes over memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regrow.execution import images, native, ops, reference
from regrow.execution.norm_ops import kind_of_statistics, single
from regrow.execution.once import once

torch.library.define(
    "regrow::batch_norm",
    "(Tensor x, Tensor? add, Tensor? weight, Tensor? bias, float eps, bool relu) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "regrow::batch_norm_backward",
    "(Tensor grad, Tensor x, Tensor? y, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, bool relu)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "regrow::batch_normed",
    "(Tensor x, Tensor? add, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, bool relu) -> Tensor",
)

Vector = Tensor | None
"""[features], or none."""


def batch_norm(
    x: Tensor, weight: Vector, bias: Vector, eps: float, add: Tensor | None = None, relu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias + add, and 0 where that is negative if `relu`.

    Args:
        x, add: [N, features] or images [N, features, H, W], best in lanes; statistics are float32 for bfloat16.

    Returns:
        y as x, in lanes; mean and var (biased) [features], over all else: for reading, gradients stop there.
    """
    added = None if add is None else _lanes(add)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.regrow.batch_norm(_lanes(x), added, weight, bias, eps, relu)
    return found


def batch_normed(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Vector,
    bias: Vector,
    eps: float,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The same by a mean and var [features] that are given. No gradients: for inference."""
    added = None if add is None else _lanes(add)
    y: Tensor = torch.ops.regrow.batch_normed(_lanes(x), added, mean, var, weight, bias, eps, relu)
    return y


def _lanes(x: Tensor) -> Tensor:
    return ops.lanes(x) if x.dim() == 2 else images.lanes(x)


def _flat(x: Tensor) -> Tensor:
    """[N, features, ...] in lanes as [... N, features] in lanes, a view."""
    return x.movedim(0, -1).reshape(x.shape[1], -1).t()


def _like(x: Tensor, y: Tensor) -> Tensor:
    """What `_flat` makes of a tensor like x, back; no view, so that what follows may work in place."""
    return torch.empty_like(x).copy_(y.t().reshape(*x.shape[1:], -1).movedim(-1, 0))


def _norm(
    x: Tensor, add: Tensor | None, weight: Vector, bias: Vector, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if not native.serves(x):
        added = None if add is None else _flat(add)
        y, mean, var = reference.norm(_flat(x), weight, bias, eps, True, added, relu)
        return _like(x, y), mean, var
    y, mean, var = _norm_fake(x, add, weight, bias, eps, relu)
    native.batch_norm(x, add, single(weight), single(bias), eps, relu, (y, mean, var))
    return y, mean, var


def _normed(
    x: Tensor, add: Tensor | None, mean: Tensor, var: Tensor, weight: Vector, bias: Vector, eps: float, relu: bool
) -> Tensor:
    if not native.serves(x):
        added = None if add is None else _flat(add)
        return _like(x, reference.normed(_flat(x), mean, var, weight, bias, eps, True, added, relu))
    y = torch.empty_like(x)
    given = (y, mean.float(), var.float())
    native.batch_norm(x, add, single(weight), single(bias), eps, relu, given, given=True)
    return y


def _gradients(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    mean: Tensor,
    var: Tensor,
    weight: Vector,
    bias: Vector,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad = _lanes(grad)
    dadd = torch.empty_like(x) if relu and y is not None else x.new_empty(0)
    if native.serves(grad, x):
        dx, added = torch.empty_like(x), dadd if dadd.numel() else None
        of = (grad, x, y, mean, var, single(weight), single(bias))
        dw, db = native.batch_norm_gradients(of, eps, relu, dx, added)
    else:
        if relu:
            seen = _like(x, reference.normed(_flat(x), mean, var, weight, bias, eps, True)) if y is None else y
            grad = grad.masked_fill(seen <= 0, 0)
        flat, dw, db = reference.norm_gradients(_flat(grad), _flat(x), mean, var, weight, eps, True)
        dx = _like(x, flat)
        dadd = dadd.copy_(grad) if dadd.numel() else dadd
    kind = x.dtype if weight is None else weight.dtype
    return dx, dadd, dw.to(kind), db.to(kind)


def _norm_fake(
    x: Tensor, add: Tensor | None, weight: Vector, bias: Vector, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    mean, var = (x.new_empty(x.shape[1], dtype=kind_of_statistics(x)) for _ in range(2))
    return torch.empty_like(x), mean, var


def _gradients_fake(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    mean: Tensor,
    var: Tensor,
    weight: Vector,
    bias: Vector,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dw, db = ((x if weight is None else weight).new_empty(x.shape[1]) for _ in range(2))
    dadd = torch.empty_like(x) if relu and y is not None else x.new_empty(0)
    return torch.empty_like(x), dadd, dw, db


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, add, weight, bias, ctx.eps, ctx.relu = inputs
    y, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.added = add is not None
    ctx.save_for_backward(x, y if ctx.added and ctx.relu else None, mean, var, weight, bias)


@once
def _backward(ctx: Any, grad: Tensor, *statistics: Tensor) -> tuple[Tensor | None, ...]:
    dx, dadd, dw, db = torch.ops.regrow.batch_norm_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.relu)
    *_, weight, bias = ctx.saved_tensors
    added = (dadd if ctx.relu else grad) if ctx.added else None
    return dx, added, None if weight is None else dw, None if bias is None else db, None, None


for _name, _run, _fake in (
    ("batch_norm", _norm, _norm_fake),
    ("batch_norm_backward", _gradients, _gradients_fake),
    ("batch_normed", _normed, lambda x, *_: torch.empty_like(x)),
):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::batch_norm", _backward, setup_context=_save)
