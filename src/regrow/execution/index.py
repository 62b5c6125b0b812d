"""Index: where the surviving weights of a matrix are, read by rows and by columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.execution import native, reference

_MOST = 2**31 - 1


class Index(NamedTuple):
    """The surviving weights of an [out, in] matrix: by rows for the product, by columns for its transpose.

    Weight k of `values` (rows ascending, then columns) lies in column `columns[k]`; row o owns the weights
    `pointers[o]:pointers[o + 1]`. The same weights by columns: column c owns `pointers_t[c]:pointers_t[c + 1]` of
    `rows` and `order`; entry j lies in row `rows[j]`, and its value is `values[order[j]]`. All int32.
    """

    pointers: Tensor  # [out + 1]
    columns: Tensor  # [nnz]
    pointers_t: Tensor  # [in + 1]
    rows: Tensor  # [nnz]
    order: Tensor  # [nnz]

    @classmethod
    def of(cls, positions: Tensor, shape: tuple[int, int]) -> Index:
        """From ascending flat positions [nnz] (int32, int64).

        Raises:
            RegrowError: more connections, rows or columns than 2^31 - 1.
        """
        nnz, (out, width) = positions.numel(), shape
        if max(nnz, out, width) > _MOST:
            raise RegrowError(f"a sparse matrix of shape {shape} with {nnz} connections: none may exceed {_MOST}")
        sizes = (out + 1, nnz, width + 1, nnz, nnz)
        index = cls(*(torch.empty(size, dtype=torch.int32, device=positions.device) for size in sizes))
        index.refill(positions)
        return index

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.pointers.numel() - 1, self.pointers_t.numel() - 1

    @property
    def nnz(self) -> int:
        return self.columns.numel()

    def refill(self, positions: Tensor) -> None:
        """Move, in place, to other ascending flat positions of the same number. Counting sorts, O(nnz + out + in)."""
        if positions.numel() != self.nnz:
            raise RegrowError(f"an index of {self.nnz} connections cannot hold {positions.numel()}: make a new one")
        if native.serves():
            native.index(positions.contiguous(), self.shape, self)
        else:
            reference.fill(self, positions)

    def positions(self) -> Tensor:
        """The ascending flat positions [nnz], int64."""
        out, width = self.shape
        counts = self.pointers.diff()
        rows = torch.repeat_interleave(torch.arange(out, device=counts.device), counts, output_size=self.nnz)
        return rows * width + self.columns
