"""Every sparse op in a few lines of plain torch: the oracle of the tests, and what runs without the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.execution.index import Index


def product(x: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """Y = X W^T + b. x [N, in], any strides -> [N, out] in lanes."""
    y = _multiply(index.pointers, index.columns, values, x.t())
    return (y if bias is None else y + bias[:, None].to(y.dtype)).t()


def gradients(
    grad: Tensor, x: Tensor, values: Tensor, index: Index, needs: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """dX = G W, in lanes; dW = (G^T X) at the surviving weights; db = sum_n G. grad [N, out]; not needed: empty."""
    none = values.new_empty(0)
    dx = _multiply(index.pointers_t, index.rows, values[index.order], grad.t()).t() if needs[0] else x.new_empty(0)
    return dx, _sampled(grad, x, index).to(values.dtype) if needs[1] else none, grad.sum(0) if needs[2] else none


def _multiply(pointers: Tensor, columns: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """[rows, in] x [in, N] -> [rows, N], contiguous."""
    rows = pointers.numel() - 1
    which = torch.repeat_interleave(torch.arange(rows, device=x.device), pointers.diff())
    matrix = torch.sparse_coo_tensor(
        torch.stack((which, columns)), values.to(x.dtype), (rows, x.shape[0]), is_coalesced=True, check_invariants=False
    )
    return torch.sparse.mm(matrix, x.contiguous())


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
