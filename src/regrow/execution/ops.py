"""The sparse ops as torch knows them: schemas, fakes, autograd, FLOP formulas.

"Lanes" is the layout of activations: logical [N, features], strides (1, N): for every feature the batch is contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from regrow.execution import reference
from regrow.execution.index import Index

_INDEX = "Tensor pointers, Tensor columns, Tensor pointers_t, Tensor rows, Tensor order"
torch.library.define("regrow::lanes", "(Tensor x) -> Tensor")
torch.library.define("regrow::sparse_linear", f"(Tensor x, Tensor values, Tensor? bias, {_INDEX}) -> Tensor")
torch.library.define(
    "regrow::sparse_linear_backward",
    f"(Tensor grad, Tensor x, Tensor values, {_INDEX}, bool[] needs) -> (Tensor, Tensor, Tensor)",
)


def sparse_linear(x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """y = x W^T + b, where W [out, in] holds `values` [nnz] at `index` and zero elsewhere.

    Args:
        x: [..., in], any strides; free of copies when in lanes (`is_lanes` of its [N, in] view).
        values: [nnz], rows ascending, then columns.
        bias: [out] or None.
        index: where the values are.

    Returns:
        [..., out], in lanes: strides (1, N); for x [B, T, in]: (T, 1, B T), so that `.view(B * T, out)` is free.
    """
    flat = lanes(x.reshape(-1, x.shape[-1]))
    y: Tensor = torch.ops.regrow.sparse_linear(flat, values, bias, *index)
    return y.view(*x.shape[:-1], y.shape[-1])


def lanes(x: Tensor) -> Tensor:
    """x [N, features] in lanes: itself if it is, else one transposed copy."""
    if is_lanes(x):
        return x
    copy: Tensor = torch.ops.regrow.lanes(x)
    return copy


def is_lanes(x: Tensor) -> bool:
    """Does x [N, features] have contiguous batch lanes?"""
    return x.t().is_contiguous()


@torch.library.impl("regrow::lanes", "CPU")
def _lanes(x: Tensor) -> Tensor:
    return x.t().clone(memory_format=torch.contiguous_format).t()


@torch.library.impl("regrow::sparse_linear", "CPU")
def _product(x: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    return reference.product(x, values, bias, Index(*index))


@torch.library.impl("regrow::sparse_linear_backward", "CPU")
def _gradients(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return reference.gradients(grad, x, values, Index(*rest[:-1]), tuple(rest[-1]))


def _empty(rows: int, like: Tensor) -> Tensor:
    """[N, rows] in lanes, N as in `like`."""
    n = like.shape[0]
    return like.new_empty_strided((n, rows), (1, n))


@torch.library.register_fake("regrow::lanes")
def _lanes_fake(x: Tensor) -> Tensor:
    return _empty(x.shape[1], x)


@torch.library.register_fake("regrow::sparse_linear")
def _product_fake(x: Tensor, values: Tensor, bias: Tensor | None, pointers: Tensor, *rest: Tensor) -> Tensor:
    return _empty(pointers.shape[0] - 1, x)


@torch.library.register_fake("regrow::sparse_linear_backward")
def _gradients_fake(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    dx, dw, db = rest[-1]
    none = values.new_empty(0)
    return (
        _empty(x.shape[1], x) if dx else x.new_empty(0),
        torch.empty_like(values) if dw else none,
        values.new_empty(grad.shape[1]) if db else none,
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, *index = inputs
    ctx.save_for_backward(x, values, *index)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    x, values, *index = ctx.saved_tensors
    parts = torch.ops.regrow.sparse_linear_backward(grad, x, values, *index, needs)
    return (*(part if need else None for part, need in zip(parts, needs, strict=True)), *(None for _ in index))


torch.library.register_autograd("regrow::sparse_linear", _backward, setup_context=_keep)
torch.library.register_autograd("regrow::lanes", lambda ctx, grad: grad)


@register_flop_formula(torch.ops.regrow.sparse_linear)
def _product_flops(x: Any, values: Any, *rest: Any, **kwargs: Any) -> int:
    """2 nnz N: a multiplication and an addition for every surviving weight and sample."""
    return 2 * int(values[0]) * int(x[0])


@register_flop_formula(torch.ops.regrow.sparse_linear_backward)
def _gradients_flops(grad: Any, x: Any, values: Any, *rest: Any, **kwargs: Any) -> int:
    """2 nnz N for each of dX and dW."""
    needs = kwargs.get("needs", rest[-1] if rest else ())
    return 2 * int(values[0]) * int(x[0]) * sum(needs[:2])
