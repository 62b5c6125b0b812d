"""Sparse convolution of images as torch knows it: schemas, fakes, autograd, FLOP formulas. Layout: images.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from regrow.core.errors import RegrowError
from regrow.execution import images, native, reference
from regrow.execution.index import Index
from regrow.execution.once import once
from regrow.execution.ops import LISTENERS, cast

torch.library.define(
    "regrow::sparse_conv2d",
    "(Tensor x, Tensor values, Tensor? bias, Tensor table, int[] geometry, SymInt[] size) -> Tensor",
)
torch.library.define(
    "regrow::sparse_conv2d_normed",
    "(Tensor x, Tensor values, Tensor? bias, Tensor table, int[] geometry, SymInt[] size, Tensor scale, Tensor? add,"
    " bool relu) -> Tensor",
)
torch.library.define(
    "regrow::sparse_conv2d_backward",
    "(Tensor grad, Tensor x, Tensor values, Tensor table, int[] geometry, bool[] needs) -> (Tensor, Tensor, Tensor)",
)

Pair = tuple[int, int]
"""Along height and width."""

_MOST = 16
"""Taps, and stride, along an axis, that the kernels take."""


class Geometry(NamedTuple):
    """How a convolution goes over an image; `padding` is before the first row and column, as many may follow the last.

    `same`: the output is as large as the input (padding="same"), else what the padding on both sides leaves.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    same: bool = False

    def size(self, height: int, width: int) -> Pair:
        """Of the output."""
        if self.same:
            return height, width
        high, wide = (
            (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, pad, dilation in zip((height, width), *self[:4], strict=True)
        )
        return high, wide

    def flat(self) -> list[int]:
        return [number for pair in self[:4] for number in pair]

    @classmethod
    def of(cls, flat: Sequence[int]) -> Geometry:
        kernel, stride, padding, dilation = reference.pairs(flat)
        return cls(kernel, stride, padding, dilation)


def sparse_conv2d(x: Tensor, values: Tensor, bias: Tensor | None, index: Index, geometry: Geometry) -> Tensor:
    """y = W * x + b, where the filters W [O, C, kh, kw] hold `values` at `index` and zero elsewhere.

    Images in float32, or in bfloat16 with sums in float32 (as autocast has it), run on the kernels.

    Args:
        x: [N, C, H, W], any strides; free of copies when in lanes (`images.is_lanes`).
        values: [nnz], by output channel, then input channel, then tap.
        bias: [O] or None.
        index: of the [O, C kh kw] matrix.

    Returns:
        [N, O, H', W'], in lanes.

    Raises:
        RegrowError: the kernel is larger than the padded image; x is of another dtype than the values.
    """
    x, size = _given(x, values, index, geometry)
    y: Tensor = torch.ops.regrow.sparse_conv2d(x, values, bias, index.table, geometry.flat(), size)
    return y


def sparse_conv2d_normed(
    x: Tensor,
    values: Tensor,
    scale: Tensor,
    shift: Tensor,
    index: Index,
    geometry: Geometry,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """y = scale (W * x) + shift + add, and 0 where that is negative if `relu`, in one pass; the rest as above.

    Gradients of x and add only, whatever is asked: the layers are frozen. scale, shift: [O]; add: as y, any strides.
    """
    x, size = _given(x, values, index, geometry)
    fits = add is not None and add.dtype is x.dtype and add.shape == (x.shape[0], *size)
    lanes = images.lanes(add) if add is not None and fits else None
    given = x, values, shift, index.table, geometry.flat(), size
    y: Tensor = torch.ops.regrow.sparse_conv2d_normed(*given, scale, lanes, relu and (fits or add is None))
    if add is None or fits:
        return y
    return (y + add).relu() if relu else y + add


def _given(x: Tensor, values: Tensor, index: Index, geometry: Geometry) -> tuple[Tensor, list[int]]:
    """The image as the kernels take it, and the size of what comes out."""
    x = cast(x, values)
    high, wide = geometry.size(x.shape[2], x.shape[3])
    if high < 1 or wide < 1:
        raise RegrowError(f"a {geometry.kernel} kernel does not fit into an image of {tuple(x.shape[2:])} with padding")
    return images.lanes(x), [index.shape[0], high, wide]


def filter_gradients(grad: Tensor, x: Tensor, geometry: Sequence[int], rows: slice, groups: int = 1) -> Tensor:
    """These filters of the dense gradient [O, C / groups, kh, kw], from grad [N, O, H', W'] and x [N, C, H, W]."""
    first, last, _ = rows.indices(grad.shape[1])
    if groups > 1:
        return reference.filter_gradients(images.as_rows(grad), images.as_rows(x), geometry, groups)[rows]
    if not (_serves(Geometry.of(geometry), grad, x) and x.numel()):
        return reference.filter_gradients(images.as_rows(grad[:, rows]), images.as_rows(x), geometry)
    found = torch.empty(last - first, x.shape[1], *geometry[:2])
    native.filters(*factors(grad, x), geometry, first, found.flatten(1))
    return found


def factors(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """As the kernels take them: images in lanes, of one type; bfloat16 only where it is multiplied by pairs."""
    if not (grad.dtype is x.dtype is torch.bfloat16 and native.isa() == "avx512bf16"):
        grad, x = grad.float(), x.float()
    return images.as_lanes(grad), images.as_lanes(x)


def _convolve(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    table: Tensor,
    geometry: list[int],
    size: list[int],
    scale: Tensor | None = None,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    index, how = _index(x, values, table, geometry, size[0]), Geometry.of(geometry)
    if bias is not None and bias.shape[0] != size[0]:
        raise RegrowError(f"a bias of {bias.shape[0]} for {size[0]} channels")
    if not _serves(how, x, values):
        scaled = values if scale is None else _scaled(values, index, scale)
        y = reference.convolve(x, scaled, bias, index, geometry, size)
        y = y if add is None else y + add
        return images.as_lanes(y.relu() if relu else y)
    y = images.empty(x, *size)
    if y.numel():
        shift, by = (None if vector is None else _single(vector) for vector in (bias, scale))
        native.convolve(index, _single(values), shift, images.as_lanes(x), y, geometry, by, add, relu)
    return y


def _gradients(
    grad: Tensor, x: Tensor, values: Tensor, table: Tensor, geometry: list[int], needs: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    index, how = _index(x, values, table, geometry, grad.shape[1]), Geometry.of(geometry)
    if needs[1] and (listener := LISTENERS.get(table.data_ptr())):
        listener.note(grad, x)
    if not _serves(how, grad, x, values):
        dx, dw, db = reference.convolve_gradients(grad, x, values, index, geometry, needs)
        return _tensors(x, None if dx is None else images.as_lanes(dx), dw, db)
    room = torch.empty if grad.numel() else torch.zeros  # of no samples, the gradient is zero
    dx = images.empty(x, *x.shape[1:]) if needs[0] else None
    dw = room(values.shape) if needs[1] else None
    db = room(grad.shape[1]) if needs[2] else None
    if grad.numel():
        native.convolve_gradients(
            index, _single(values), images.as_lanes(grad), images.as_lanes(x), dx, dw, db, geometry
        )
    return _tensors(x, dx, *(None if part is None else part.to(values.dtype) for part in (dw, db)))


def _scaled(values: Tensor, index: Index, scale: Tensor) -> Tensor:
    return values * scale.to(values)[index.positions() // index.shape[1]]


def _index(x: Tensor, values: Tensor, table: Tensor, geometry: list[int], out: int) -> Index:
    """The kernels trust sizes; nothing else stands between a wrong one and foreign memory."""
    index = Index(table, (out, x.shape[1] * geometry[0] * geometry[1]))
    if table.shape[0] != sum(index.shape) + 2 + 3 * values.shape[0]:
        raise RegrowError(
            f"an index of {table.shape[0]} entries does not belong to {values.shape[0]} values of {out} filters "
            f"over {x.shape[1]} channels: are channels and connections as many as the layer's?"
        )
    return index


def _serves(how: Geometry, *tensors: Tensor) -> bool:
    return max(*how.kernel, *how.stride) <= _MOST and native.serves(*tensors)


def _single(values: Tensor) -> Tensor:
    return values.float().contiguous()


def _tensors(like: Tensor, dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """An op returns tensors: an empty one for what nobody needs."""
    parts = (like.new_empty(0) if part is None else part for part in (dx, dw, db))
    return next(parts), next(parts), next(parts)


def _convolve_fake(
    x: Tensor, values: Tensor, bias: Tensor | None, table: Tensor, geometry: list[int], size: list[int], *then: Any
) -> Tensor:
    return images.empty(x, *size)


def _gradients_fake(
    grad: Tensor, x: Tensor, values: Tensor, table: Tensor, geometry: list[int], needs: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    return _tensors(
        x,
        images.empty(x, *x.shape[1:]) if needs[0] else None,
        torch.empty_like(values, memory_format=torch.contiguous_format) if needs[1] else None,
        values.new_empty(grad.shape[1]) if needs[2] else None,
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, table, ctx.geometry, _ = inputs
    ctx.save_for_backward(x, values, table)


@once
def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:3]
    found = torch.ops.regrow.sparse_conv2d_backward(grad, *ctx.saved_tensors, ctx.geometry, needs)
    return (*(part if needed else None for part, needed in zip(found, needs, strict=True)), None, None, None)


def _setup_normed(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, _, table, ctx.geometry, _, scale, _, relu = inputs
    ctx.save_for_backward(x, values, table, scale, output if relu else None)


@once
def _backward_normed(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, table, scale, y = ctx.saved_tensors
    grad = grad if y is None else torch.ops.aten.threshold_backward(grad, y, 0)
    dx = None
    if ctx.needs_input_grad[0]:
        scaled = _scaled(values, _index(x, values, table, ctx.geometry, grad.shape[1]), scale)
        dx, _, _ = torch.ops.regrow.sparse_conv2d_backward(grad, x, scaled, table, ctx.geometry, [True, False, False])
    return dx, *[None] * 6, grad if ctx.needs_input_grad[7] else None, None


for _name, _run, _fake in (
    ("sparse_conv2d", _convolve, _convolve_fake),
    ("sparse_conv2d_normed", _convolve, _convolve_fake),
    ("sparse_conv2d_backward", _gradients, _gradients_fake),
):
    torch.library.impl(f"regrow::{_name}", "CPU", _run)
    torch.library.register_fake(f"regrow::{_name}", _fake)
torch.library.register_autograd("regrow::sparse_conv2d", _backward, setup_context=_setup)
torch.library.register_autograd("regrow::sparse_conv2d_normed", _backward_normed, setup_context=_setup_normed)


@register_flop_formula([torch.ops.regrow.sparse_conv2d, torch.ops.regrow.sparse_conv2d_normed])
def _flops(x: Any, values: Any, bias: Any, table: Any, geometry: Any, size: Any, *then: Any, **kwargs: Any) -> int:
    """2 nnz N H' W': a multiplication and an addition for every surviving weight and output pixel."""
    return 2 * int(values[0]) * int(x[0]) * int(size[1]) * int(size[2])


@register_flop_formula(torch.ops.regrow.sparse_conv2d_backward)
def _gradients_flops(grad: Any, x: Any, values: Any, table: Any, geometry: Any, needs: Any, **kwargs: Any) -> int:
    """2 nnz N H' W' for each of dX and dW."""
    return 2 * int(values[0]) * int(grad[0]) * int(grad[2]) * int(grad[3]) * (int(needs[0]) + int(needs[1]))
