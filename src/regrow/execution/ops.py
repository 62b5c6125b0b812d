"""The sparse ops as torch knows them: schemas, fakes, autograd, FLOP formulas.

"Lanes" is the layout of activations: logical [N, features], strides (1, N): for every feature the batch is contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from regrow.core.errors import RegrowError
from regrow.execution import native, reference
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


def _lanes(x: Tensor) -> Tensor:
    if not (x.is_contiguous() and native.serves(x)):
        return x.t().clone(memory_format=torch.contiguous_format).t()
    y = _empty(x.shape[1], x)
    native.transpose(x, y)
    return y


def _product(x: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    _check(x, values, bias, index)
    if not native.serves(x, values, bias):
        return reference.product(x, values, bias, Index(*index))
    pointers, columns, *_ = index
    y = _empty(pointers.numel() - 1, x)
    bias = None if bias is None else bias.contiguous()
    native.product(pointers, columns, None, values.contiguous(), bias, _in_lanes(x), y)
    return y


def _gradients(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *index, (need_x, need_values, need_bias) = rest
    _check(x, values, None, index)
    if not native.serves(grad, x, values):
        return _tensors(x, *reference.gradients(grad, x, values, Index(*index), (need_x, need_values, need_bias)))
    grad, values = _in_lanes(grad), values.contiguous()
    dx = _empty(x.shape[1], x) if need_x else None
    dw = torch.empty_like(values) if need_values else None
    db = values.new_empty(grad.shape[1]) if need_bias else None
    if dw is not None:
        native.gradients(index, values, grad, _in_lanes(x), dx, dw, db)
    else:
        if dx is not None:
            pointers_t, rows, order = index[2:]
            native.product(pointers_t, rows, order, values, None, grad, dx)
        if db is not None:
            torch.sum(grad, 0, out=db)
    return _tensors(x, dx, dw, db)


def _tensors(like: Tensor, dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """An op returns tensors: an empty one for what nobody needs."""
    parts = (like.new_empty(0) if part is None else part for part in (dx, dw, db))
    return next(parts), next(parts), next(parts)


def _in_lanes(x: Tensor) -> Tensor:
    return x if is_lanes(x) else _lanes(x)


def _check(x: Tensor, values: Tensor, bias: Tensor | None, index: Sequence[Tensor]) -> None:
    """The kernels trust sizes; nothing else stands between a wrong one and foreign memory."""
    pointers, columns, pointers_t, rows, order = index
    if x.shape[1] != pointers_t.shape[0] - 1:
        out, width = pointers.shape[0] - 1, pointers_t.shape[0] - 1
        raise RegrowError(f"input of {x.shape[1]} features for a sparse matrix [{out}, {width}]")
    if not values.shape[0] == columns.shape[0] == rows.shape[0] == order.shape[0]:
        raise RegrowError(f"{values.shape[0]} values for an index of {columns.shape[0]} connections")
    if bias is not None and bias.shape[0] != pointers.shape[0] - 1:
        raise RegrowError(f"a bias of {bias.shape[0]} for {pointers.shape[0] - 1} rows")


def _empty(rows: int, like: Tensor) -> Tensor:
    """[N, rows] in lanes, N as in `like`."""
    n = like.shape[0]
    return like.new_empty_strided((n, rows), (1, n))


def _lanes_fake(x: Tensor) -> Tensor:
    return _empty(x.shape[1], x)


def _product_fake(x: Tensor, values: Tensor, bias: Tensor | None, pointers: Tensor, *rest: Tensor) -> Tensor:
    return _empty(pointers.shape[0] - 1, x)


def _gradients_fake(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    needs: list[bool] = rest[-1]
    return _tensors(
        x,
        _empty(x.shape[1], x) if needs[0] else None,
        torch.empty_like(values) if needs[1] else None,
        values.new_empty(grad.shape[1]) if needs[2] else None,
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, *index = inputs
    ctx.save_for_backward(x, values, *index)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    x, values, *index = ctx.saved_tensors
    parts = torch.ops.regrow.sparse_linear_backward(grad, x, values, *index, needs)
    return (*(part if need else None for part, need in zip(parts, needs, strict=True)), *(None for _ in index))


for _name, _run, _fake in (
    ("lanes", _lanes, _lanes_fake),
    ("sparse_linear", _product, _product_fake),
    ("sparse_linear_backward", _gradients, _gradients_fake),
):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::sparse_linear", _backward, setup_context=_keep)
torch.library.register_autograd("regrow::lanes", lambda ctx, grad: grad)


@register_flop_formula(torch.ops.regrow.sparse_linear)
def _product_flops(x: Any, values: Any, *rest: Any, **kwargs: Any) -> int:
    """2 nnz N: a multiplication and an addition for every surviving weight and sample."""
    return 2 * int(values[0]) * int(x[0])


@register_flop_formula(torch.ops.regrow.sparse_linear_backward)
def _gradients_flops(grad: Any, x: Any, values: Any, *rest: Any, **kwargs: Any) -> int:
    """2 nnz N for each of dX and dW."""
    needs: list[bool] = rest[-1]
    return 2 * int(values[0]) * int(x[0]) * sum(needs[:2])
