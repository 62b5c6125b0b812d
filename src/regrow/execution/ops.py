"""The sparse ops as torch knows them: schemas, fakes, autograd, FLOP formulas.

"Lanes" is the layout of activations: logical [N, features], strides (1, N): for every feature the batch is contiguous.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from regrow.core.errors import RegrowError
from regrow.execution import native, reference
from regrow.execution.index import Index
from regrow.execution.once import once
from regrow.execution.scratch import LEAST, lasting, recurring

torch.library.define("regrow::lanes", "(Tensor x) -> Tensor")
torch.library.define(
    "regrow::sparse_linear", "(Tensor x, Tensor values, Tensor? bias, Tensor table, int out) -> Tensor"
)
torch.library.define(
    "regrow::sparse_linear_backward",
    "(Tensor grad, Tensor x, Tensor values, Tensor table, bool[] needs) -> (Tensor, Tensor, Tensor)",
)


class Listener(Protocol):
    """Hears what the backward pass of a layer is given."""

    def note(self, grad: Tensor, x: Tensor) -> None: ...


ALONE = 4
"""Threads up to which each lays activations into lanes for itself: more of them better share the work."""

LISTENERS: WeakValueDictionary[int, Listener] = WeakValueDictionary()
"""By the address of the layer's index. They are told inside the op, so that nothing that is compiled knows of them."""


def sparse_linear(x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """y = x W^T + b, where W [out, in] holds `values` [nnz] at `index` and zero elsewhere.

    Activations in float32, or in bfloat16 with sums in float32 (as autocast has it), run on the kernels.

    Args:
        x: [..., in], any strides; free of copies when in lanes (`is_lanes` of its [N, in] view).
        values: [nnz], rows ascending, then columns.
        bias: [out] or None.
        index: where the values are.

    Returns:
        [..., out], in lanes: strides (1, N); for x [B, T, in]: (T, 1, B T), so that `.view(B * T, out)` is free.

    Raises:
        RegrowError: x is of another dtype than the values.
    """
    table, (out, _) = index
    x = cast(x, values)
    if x.dim() == 2:
        y: Tensor = torch.ops.regrow.sparse_linear(x, values, bias, table, out)
        return y
    return sparse_linear(x.reshape(-1, x.shape[-1]), values, bias, index).view(*x.shape[:-1], out)


def cast(x: Tensor, values: Tensor) -> Tensor:
    """x as autocast has it; without it, of the values' dtype already, or in bfloat16 for values in float32."""
    if torch.is_autocast_enabled("cpu"):
        return x.to(torch.get_autocast_dtype("cpu"))
    if x.dtype is not values.dtype and (x.dtype, values.dtype) != (torch.bfloat16, torch.float32):
        raise RegrowError(
            f"a sparse layer in {values.dtype} was given {x.dtype}: give it x.to({values.dtype}), or use torch.autocast"
        )
    return x


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


def _product(x: Tensor, values: Tensor, bias: Tensor | None, table: Tensor, out: int) -> Tensor:
    index = Index(table, (out, x.shape[1]))
    _check(index, values, bias)
    if not native.serves(x, values):
        return reference.product(x, values, bias, index)
    y = _room(out, x, table)
    native.product(index, _single(values), None if bias is None else _single(bias), _panel(x), y)
    return y


def _gradients(
    grad: Tensor, x: Tensor, values: Tensor, table: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    index = Index(table, (grad.shape[1], x.shape[1]))
    _check(index, values, None)
    need_x, need_values, need_bias = needs
    if need_values and (listener := LISTENERS.get(table.data_ptr())):
        listener.note(grad, x)
    if not native.serves(grad, x, values):
        dx, *others = reference.gradients(grad, x, values, index, (need_x, need_values, need_bias))
        return _tensors(x, None if dx is None else _gradient_of(x, need_values).copy_(dx), *others)
    x = _dense(x)
    dx = None
    if need_x:
        dx = _gradient_of(x, True) if need_values and not is_lanes(x) else _room(x.shape[1], x, table)
    dw = lasting(values.shape[0], torch.float32) if need_values else None
    db = torch.empty(grad.shape[1]) if need_bias else None
    if not x.shape[0]:  # of no samples, the gradient is zero
        torch._foreach_zero_([part for part in (dw, db) if part is not None])
    native.gradients(index, _single(values), _panel(grad), x, dx, dw, db)
    return _tensors(x, dx, *(None if part is None else part.to(values.dtype) for part in (dw, db)))


def _tensors(like: Tensor, dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """An op returns tensors: an empty one for what nobody needs."""
    parts = (like.new_empty(0) if part is None else part for part in (dx, dw, db))
    return next(parts), next(parts), next(parts)


def _single(values: Tensor) -> Tensor:
    return values.float().contiguous()


def _in_lanes(x: Tensor) -> Tensor:
    return x if is_lanes(x) else _lanes(x)


def _dense(x: Tensor) -> Tensor:
    """In lanes or in rows."""
    return x if is_lanes(x) else x.contiguous()


def _panel(x: Tensor) -> Tensor:
    """What every thread reads all of: in lanes, or in rows if each lays it into lanes for itself."""
    return _dense(x) if torch.get_num_threads() <= ALONE else _in_lanes(x)


def _gradient_of(x: Tensor, with_values: bool) -> Tensor:
    """Room for dX, laid out as X where dW is made too."""
    return x.new_empty(x.shape) if with_values and not is_lanes(x) else _empty(x.shape[1], x)


def _check(index: Index, values: Tensor, bias: Tensor | None) -> None:
    """The kernels trust sizes; nothing else stands between a wrong one and foreign memory."""
    out, width = index.shape
    if not index.fits(values.shape[0]):
        raise RegrowError(
            f"an index of {index.table.shape[0]} entries does not belong to {values.shape[0]} values of a "
            f"[{out}, {width}] matrix: are features and connections as many as the layer's?"
        )
    if bias is not None and bias.shape[0] != out:
        raise RegrowError(f"a bias of {bias.shape[0]} for {out} rows")


def _empty(rows: int, like: Tensor) -> Tensor:
    """[N, rows] in lanes, N as in `like`."""
    n = like.shape[0]
    return like.new_empty_strided((n, rows), (1, n))


def _room(rows: int, like: Tensor, table: Tensor) -> Tensor:
    """The same, for what a layer with this index makes in every step."""
    n = like.shape[0]
    if n * rows * like.dtype.itemsize < LEAST:
        return _empty(rows, like)
    return recurring((table.data_ptr(), rows), n * rows, like.dtype).view(rows, n).t()


def _lanes_fake(x: Tensor) -> Tensor:
    return _empty(x.shape[1], x)


def _product_fake(x: Tensor, values: Tensor, bias: Tensor | None, table: Tensor, out: int) -> Tensor:
    return _empty(out, x)


def _gradients_fake(
    grad: Tensor, x: Tensor, values: Tensor, table: Tensor, needs: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    need_x, need_values, need_bias = needs
    return _tensors(
        x,
        _gradient_of(x, need_values) if need_x else None,
        torch.empty_like(values, memory_format=torch.contiguous_format) if need_values else None,
        values.new_empty(grad.shape[1]) if need_bias else None,
    )


def _unwatched(x: Tensor) -> bool:
    """Does no mode and no kind of tensor look into what is dispatched? Then 6 microseconds an op can be saved."""
    return type(x) is Tensor and not torch._C._len_torch_dispatch_stack()


class _SparseLinear(torch.autograd.Function):
    """The autograd of the op; `torch.library.register_autograd` makes the same, 17 microseconds a step slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, table: Tensor, out: int) -> Tensor:
        ctx.save_for_backward(x, values, table)
        if _unwatched(x):
            return _product(x, values, bias, table, out)
        with torch._C._AutoDispatchBelowAutograd():
            y: Tensor = torch.ops.regrow.sparse_linear(x, values, bias, table, out)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad[:3]
        run: Any = _gradients if _unwatched(grads[0]) else torch.ops.regrow.sparse_linear_backward
        dx, dw, db = run(grads[0], *ctx.saved_tensors, needs)
        return dx if needs[0] else None, dw if needs[1] else None, db if needs[2] else None, None, None


for _name, _run, _fake in (
    ("lanes", _lanes, _lanes_fake),
    ("sparse_linear", _product, _product_fake),
    ("sparse_linear_backward", _gradients, _gradients_fake),
):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.impl("regrow::sparse_linear", "Autograd", _SparseLinear.apply)
torch.library.register_autograd("regrow::lanes", lambda ctx, grad: lanes(grad.t()).t())  # rows again


@register_flop_formula(torch.ops.regrow.sparse_linear)
def _product_flops(x: Any, values: Any, *rest: Any, **kwargs: Any) -> int:
    """2 nnz N: a multiplication and an addition for every surviving weight and sample."""
    return 2 * int(values[0]) * int(x[0])


@register_flop_formula(torch.ops.regrow.sparse_linear_backward)
def _gradients_flops(grad: Any, x: Any, values: Any, table: Any, needs: list[bool], **kwargs: Any) -> int:
    """2 nnz N for each of dX and dW."""
    return 2 * int(values[0]) * int(x[0]) * sum(needs[:2])
