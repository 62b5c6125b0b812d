"""Every sparse op in a few lines of plain torch: the oracle of the tests, and what runs without the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input, conv2d_weight

if TYPE_CHECKING:
    from regrow.execution.index import Index


def fill(index: Index, positions: Tensor) -> None:
    """Make `index` that of the ascending flat positions [nnz]."""
    pointers, columns, pointers_t, rows, order = index.lists()
    row, column = positions // index.shape[1], positions % index.shape[1]
    columns.copy_(column)
    order.copy_(torch.argsort(column, stable=True))
    rows.copy_(row[order])
    for starts, which in ((pointers, row), (pointers_t, column)):
        starts[0] = 0
        starts[1:] = torch.bincount(which, minlength=starts.numel() - 1).cumsum(0)


def product(x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """Y = X W^T + b. x [N, in], any strides -> [N, out] in lanes."""
    pointers, columns, *_ = index.lists()
    y = _multiply(pointers, columns, values, x.t())
    return (y if bias is None else y + bias[:, None].to(y.dtype)).t()


def gradients(
    grad: Tensor, x: Tensor, values: Tensor, index: Index, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dX = G W, in lanes; dW = (G^T X) at the surviving weights; db = sum_n G. grad [N, out]."""
    *_, pointers_t, rows, order = index.lists()
    dx = _multiply(pointers_t, rows, values[order], grad.t()).t() if needs[0] else None
    dw = _sampled(grad, x, index).to(values.dtype) if needs[1] else None
    return dx, dw, grad.sum(0) if needs[2] else None


def _multiply(pointers: Tensor, columns: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """[rows, in] x [in, N] -> [rows, N], contiguous."""
    rows = pointers.numel() - 1
    which = torch.arange(rows, device=x.device).repeat_interleave(pointers.diff())
    exact = torch.float32 if x.dtype.itemsize == 2 else x.dtype  # half precision is summed in single
    matrix = torch.sparse_coo_tensor(
        torch.stack((which, columns)), values.to(exact), (rows, x.shape[0]), is_coalesced=True, check_invariants=False
    )
    y: Tensor = torch.sparse.mm(matrix, x.to(matrix.dtype).contiguous())
    return y.to(x.dtype)


def _sampled(grad: Tensor, x: Tensor, index: Index, block: int = 2**22) -> Tensor:
    """(G^T X) at the surviving weights [nnz]; the dense gradient exists a block of rows at a time."""
    (out, width), (pointers, *_), positions = index.shape, index.lists(), index.positions()
    step = max(1, block // max(1, width))
    parts = [
        (grad[:, at : at + step].t() @ x).flatten()[
            positions[pointers[at] : pointers[min(at + step, out)]] - at * width
        ]
        for at in range(0, out, step)
    ]
    return torch.cat(parts) if parts else x.new_empty(0)


def norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    batch: bool,
    add: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, ...]:
    """y = (x - mean) / sqrt(var + eps) * weight + bias + add in lanes, cut at 0 if `relu`; mean, var: of each feature
    if `batch`, else lane."""
    var, mean = torch.var_mean(_exact(x), 0 if batch else 1, correction=0)
    return normed(x, mean, var, weight, bias, eps, batch, add, relu), mean, var


def normed(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    batch: bool,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The same by a mean and var that are given."""
    over = 0 if batch else 1
    y = (_exact(x) - mean.unsqueeze(over)) * (var + eps).rsqrt().unsqueeze(over)
    y = y if weight is None else y * weight.to(y.dtype)
    y = y if bias is None else y + bias.to(y.dtype)
    y = y if add is None else y + add
    return _lanes((y.relu() if relu else y).to(x.dtype))


def norm_gradients(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float, batch: bool
) -> tuple[Tensor, ...]:
    """dx = (h - mean(h) - z mean(h z)) / sqrt(var + eps) with h = g weight and z the normalised x; dw, db."""
    over = 0 if batch else 1
    g, inverse = _exact(grad), (var + eps).rsqrt().unsqueeze(over)
    z = (_exact(x) - mean.unsqueeze(over)) * inverse
    h = g if weight is None else g * weight.to(g.dtype)
    dx = (h - h.mean(over, keepdim=True) - z * (h * z).mean(over, keepdim=True)) * inverse
    return _lanes(dx.to(x.dtype)), (g * z).sum(0), g.sum(0)


def convolve(
    x: Tensor, values: Tensor, bias: Tensor | None, index: Index, geometry: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Y = W * X + b, [N, *size]. `geometry`: kernel, stride, padding, dilation, along height and width each."""
    kernel, stride, _, dilation = pairs(geometry)
    padded = pad(_exact(x), _border(x, geometry, size[1:]))
    weight = filters(values, index, kernel).to(padded.dtype)
    y = conv2d(padded, weight, None if bias is None else bias.to(padded.dtype), stride, 0, dilation)
    return y.to(x.dtype)


def convolve_gradients(
    grad: Tensor, x: Tensor, values: Tensor, index: Index, geometry: Sequence[int], needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dX; dW at the surviving weights; db = the sums of the channels of G."""
    kernel, stride, _, dilation = pairs(geometry)
    g, border = _exact(grad), _border(x, geometry, grad.shape[2:])
    dx = dw = None
    if needs[0]:
        weight, padded = filters(values, index, kernel).to(g.dtype), pad(_exact(x), border)
        whole = conv2d_input(padded.shape, weight, g, stride, 0, dilation)  # type: ignore[no-untyped-call]
        dx = pad(whole, [-side for side in border]).to(x.dtype)
    if needs[1]:
        dw = filter_gradients(g, x, geometry).flatten()[index.positions()].to(values.dtype)
    return dx, dw, g.sum((0, 2, 3)).to(values.dtype) if needs[2] else None


def filter_gradients(grad: Tensor, x: Tensor, geometry: Sequence[int], groups: int = 1) -> Tensor:
    """The dense gradient [O, C / groups, kh, kw], summed in float32 or more and left so."""
    kernel, stride, _, dilation = pairs(geometry)
    g, padded = _exact(grad), pad(_exact(x), _border(x, geometry, grad.shape[2:]))
    size = [grad.shape[1], x.shape[1] // groups, *kernel]
    found: Tensor = conv2d_weight(padded, size, g, stride, 0, dilation, groups)  # type: ignore[no-untyped-call]
    return found


def pairs(geometry: Sequence[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(geometry[::2], geometry[1::2], strict=True))


def filters(values: Tensor, index: Index, kernel: tuple[int, int]) -> Tensor:
    """[O, C, kh, kw]: these values [nnz] where weights survive, 0 elsewhere."""
    out, width = index.shape
    flat = values.new_zeros(out * width).index_copy_(0, index.positions(), values)
    return flat.view(out, width // (kernel[0] * kernel[1]), *kernel)


def _border(x: Tensor, geometry: Sequence[int], size: Sequence[int]) -> list[int]:
    """What to add left, right, above, below, that the output has this size; the image's rest is cut off."""
    border: list[int] = []
    for side, out, (kernel, stride, before, dilation) in zip(
        x.shape[2:], size, zip(*pairs(geometry), strict=True), strict=True
    ):
        border = [before, (out - 1) * stride + dilation * (kernel - 1) + 1 - side - before, *border]
    return border


def _exact(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize == 2 else x


def _lanes(x: Tensor) -> Tensor:
    return x.t().contiguous().t()
