"""Layer normalisation of activations in lanes as torch knows it: schemas, fakes, autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from regrow.execution import native, reference
from regrow.execution.once import once
from regrow.execution.ops import lanes

torch.library.define(
    "regrow::layer_norm", "(Tensor x, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)"
)
torch.library.define(
    "regrow::layer_norm_backward",
    "(Tensor grad, Tensor x, Tensor mean, Tensor var, Tensor? weight, float eps) -> (Tensor, Tensor, Tensor)",
)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, for x [N, features] in lanes.

    Args:
        x: statistics are float32 for bfloat16.
        weight, bias: [features] or None.

    Returns:
        y [N, features] in lanes; mean and var (biased) [N] of each row: for reading, gradients stop there.
    """
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.regrow.layer_norm(lanes(x), weight, bias, eps)
    return found


def in_lanes(x: Tensor) -> bool:
    """Is x [..., features] in lanes, and not in rows as well?"""
    return x.dim() > 1 and not x.is_contiguous() and x.movedim(-1, 0).is_contiguous()


def single(vector: Tensor | None) -> Tensor | None:
    """As the kernels take parameters: float32."""
    return None if vector is None else vector.float().contiguous()


def kind_of_statistics(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype.itemsize == 2 else x.dtype


def _norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    if not native.serves(x):
        y, mean, var = reference.norm(x, weight, bias, eps, batch=False)
        return y, mean, var
    y, mean, var = _norm_fake(x, weight, bias, eps)
    native.layer_norm(x, single(weight), single(bias), eps, (y, mean, var))
    return y, mean, var


def _gradients(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if native.serves(grad, x):
        dx = torch.empty_like(x)
        dw, db = native.layer_norm_gradients(lanes(grad), x, mean, var, single(weight), eps, dx)
    else:
        dx, dw, db = reference.norm_gradients(grad, x, mean, var, weight, eps, batch=False)
    kind = x.dtype if weight is None else weight.dtype
    return dx, dw.to(kind), db.to(kind)


def _norm_fake(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, var = (x.new_empty(x.shape[0], dtype=kind_of_statistics(x)) for _ in range(2))
    return torch.empty_like(x), mean, var


def _gradients_fake(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dw, db = ((x if weight is None else weight).new_empty(x.shape[1]) for _ in range(2))
    return torch.empty_like(x), dw, db


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, ctx.eps = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.save_for_backward(x, mean, var, weight)
    ctx.biased = bias is not None


@once
def _backward(ctx: Any, grad: Tensor, *statistics: Tensor) -> tuple[Tensor | None, ...]:
    dx, dw, db = torch.ops.regrow.layer_norm_backward(grad, *ctx.saved_tensors, ctx.eps)
    weight = ctx.saved_tensors[-1]
    return dx, None if weight is None else dw, db if ctx.biased else None, None


for _name, _run, _fake in (("layer_norm", _norm, _norm_fake), ("layer_norm_backward", _gradients, _gradients_fake)):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::layer_norm", _backward, setup_context=_save)
