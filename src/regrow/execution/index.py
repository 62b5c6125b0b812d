"""Index: where the surviving weights of a matrix are, by rows and by columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.execution import native, reference

_MOST = 2**31 - 1


class Index(NamedTuple):
    """The surviving weights of an [out, in] matrix: by rows for its product, by columns for its transpose's.

    One int32 table, [out + in + 2 + 3 nnz], holds five lists after one another: `pointers` [out + 1]: row o owns the
    weights pointers[o] to pointers[o + 1]; `columns` [nnz] of the weights, rows ascending, then columns; and the same
    by columns: `pointers_t` [in + 1], `rows` [nnz], and `order` [nnz]: which weight each one is.
    """

    table: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, positions: Tensor, shape: tuple[int, int]) -> Index:
        """From ascending flat positions [nnz] (int32, int64).

        Raises:
            RegrowError: more connections, rows or columns than 2^31 - 1.
        """
        nnz, (out, width) = positions.numel(), shape
        if max(nnz, out, width) > _MOST:
            raise RegrowError(f"a sparse matrix of shape {shape} with {nnz} connections: none may exceed {_MOST}")
        table = torch.empty(out + width + 2 + 3 * nnz, dtype=torch.int32, device=positions.device)
        index = cls(table, (out, width))
        index.refill(positions)
        return index

    @property
    def nnz(self) -> int:
        return (self.table.numel() - sum(self.shape) - 2) // 3

    def lists(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """pointers, columns, pointers_t, rows, order: views of the table."""
        (out, width), nnz = self.shape, self.nnz
        sizes = (out + 1, nnz, width + 1, nnz, nnz)
        pointers, columns, pointers_t, rows, order = self.table.split(sizes)  # type: ignore[no-untyped-call]
        return pointers, columns, pointers_t, rows, order

    def refill(self, positions: Tensor) -> None:
        """Move, in place, to other ascending flat positions of the same number. Counting sorts, O(nnz + out + in)."""
        if positions.numel() != self.nnz:
            raise RegrowError(f"an index of {self.nnz} connections cannot hold {positions.numel()}: make a new one")
        if native.serves():
            native.index(positions.contiguous(), self.shape, self.table)
        else:
            reference.fill(self, positions)

    def positions(self) -> Tensor:
        """The ascending flat positions [nnz], int64."""
        (out, width), (pointers, columns, *_) = self.shape, self.lists()
        rows = torch.arange(out, device=columns.device).repeat_interleave(pointers.diff(), output_size=self.nnz)
        return rows * width + columns
