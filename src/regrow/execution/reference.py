"""Every sparse op in a few lines of plain torch: the oracle of the tests, and what runs without the kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from regrow.execution.index import Index


def fill(index: Index, positions: Tensor) -> None:
    """Make `index` that of the ascending flat positions [nnz]."""
    width = index.shape[1]
    rows, columns = positions // width, positions % width
    order = torch.argsort(columns, stable=True)
    index.columns.copy_(columns)
    index.order.copy_(order)
    index.rows.copy_(rows[order])
    for pointers, which in ((index.pointers, rows), (index.pointers_t, columns)):
        pointers[0] = 0
        pointers[1:] = torch.bincount(which, minlength=pointers.numel() - 1).cumsum(0)


def product(x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """Y = X W^T + b. x [N, in], any strides -> [N, out] in lanes."""
    y = _multiply(index.pointers, index.columns, values, x.t())
    return (y if bias is None else y + bias[:, None].to(y.dtype)).t()


def gradients(
    grad: Tensor, x: Tensor, values: Tensor, index: Index, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dX = G W, in lanes; dW = (G^T X) at the surviving weights; db = sum_n G. grad [N, out]."""
    dx = _multiply(index.pointers_t, index.rows, values[index.order], grad.t()).t() if needs[0] else None
    dw = _sampled(grad, x, index).to(values.dtype) if needs[1] else None
    return dx, dw, grad.sum(0) if needs[2] else None


def _multiply(pointers: Tensor, columns: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """[rows, in] x [in, N] -> [rows, N], contiguous."""
    rows = pointers.numel() - 1
    which = torch.repeat_interleave(torch.arange(rows, device=x.device), pointers.diff())
    matrix = torch.sparse_coo_tensor(
        torch.stack((which, columns)), values.to(x.dtype), (rows, x.shape[0]), is_coalesced=True, check_invariants=False
    )
    y: Tensor = torch.sparse.mm(matrix, x.contiguous())
    return y


def _sampled(grad: Tensor, x: Tensor, index: Index, block: int = 2**22) -> Tensor:
    """(G^T X) at the surviving weights [nnz]; the dense gradient exists a block of rows at a time."""
    (out, width), positions = index.shape, index.positions()
    step = max(1, block // max(1, width))
    parts = [
        (grad[:, at : at + step].t() @ x).flatten()[
            positions[index.pointers[at] : index.pointers[min(at + step, out)]] - at * width
        ]
        for at in range(0, out, step)
    ]
    return torch.cat(parts) if parts else x.new_empty(0)
