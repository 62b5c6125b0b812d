"""Normalisation of activations in lanes as torch knows it: schemas, fakes, autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regrow.execution import native, reference
from regrow.execution.ops import lanes

torch.library.define(
    "regrow::norm", "(Tensor x, Tensor? weight, Tensor? bias, float eps, bool batch) -> (Tensor, Tensor, Tensor)"
)
torch.library.define(
    "regrow::norm_backward",
    "(Tensor grad, Tensor x, Tensor mean, Tensor var, Tensor? weight, float eps, bool batch)"
    " -> (Tensor, Tensor, Tensor)",
)


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, for x [N, features] in lanes.

    Args:
        x: statistics are float32 for bfloat16.
        weight, bias: [features] or None.
        batch: mean and var (biased) of each feature over the batch; else of each row over its features.

    Returns:
        y [N, features] in lanes; mean and var, [features] if `batch`, else [N]: for reading, gradients stop there.
    """
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.regrow.norm(lanes(x), weight, bias, eps, batch)
    return found


def in_lanes(x: Tensor) -> bool:
    """Is x [..., features] in lanes, and not in rows as well?"""
    return x.dim() > 1 and not x.is_contiguous() and x.movedim(-1, 0).is_contiguous()


def _norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if not native.serves(x):
        y, mean, var = reference.norm(x, weight, bias, eps, batch)
        return y, mean, var
    y, mean, var = _norm_fake(x, weight, bias, eps, batch)
    native.norm(x, _single(weight), _single(bias), eps, batch, (y, mean, var))
    return y, mean, var


def _gradients(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if native.serves(grad, x):
        dx = torch.empty_like(x)
        dw, db = native.norm_gradients(lanes(grad), x, mean, var, _single(weight), eps, batch, dx)
    else:
        dx, dw, db = reference.norm_gradients(grad, x, mean, var, weight, eps, batch)
    kind = x.dtype if weight is None else weight.dtype
    return dx, dw.to(kind), db.to(kind)


def _single(vector: Tensor | None) -> Tensor | None:
    return None if vector is None else vector.float().contiguous()


def _norm_fake(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.float32 if x.dtype.itemsize == 2 else x.dtype
    mean, var = (x.new_empty(x.shape[1] if batch else x.shape[0], dtype=kind) for _ in range(2))
    return torch.empty_like(x), mean, var


def _gradients_fake(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dw, db = ((x if weight is None else weight).new_empty(x.shape[1]) for _ in range(2))
    return torch.empty_like(x), dw, db


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps, ctx.batch = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.save_for_backward(x, mean, var, weight)
    ctx.biased = bias is not None


def _backward(ctx: Any, grad: Tensor, *statistics: Tensor) -> tuple[Tensor | None, ...]:
    dx, dw, db = torch.ops.regrow.norm_backward(grad, *ctx.saved_tensors, ctx.eps, ctx.batch)
    weight = ctx.saved_tensors[-1]
    return dx, None if weight is None else dw, db if ctx.biased else None, None, None


for _name, _run, _fake in (("norm", _norm, _norm_fake), ("norm_backward", _gradients, _gradients_fake)):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::norm", _backward, setup_context=_save)
