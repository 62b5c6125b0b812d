"""Index: where the surviving weights of a matrix are, by rows and by columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.execution import native, reference
from regrow.execution.scratch import lasting

_MOST = 2**31 - 1


_NARROW = 1 << 16
"""Rows and columns that 16 bits count."""


class Index(NamedTuple):
    """The surviving weights of an [out, in] matrix: by rows for its product, by columns for its transpose's.

    One table holds five lists: `pointers` [out + 1]: row o owns the weights pointers[o] to pointers[o + 1]; `columns`
    [nnz] of the weights, rows ascending, then columns; and the same by columns: `pointers_t` [in + 1], `rows` [nnz],
    and `order` [nnz]: which weight each one is.

    Of 32 bits (table int32, [out + in + 2 + 3 nnz]) they follow one another. A narrow table (int16, [2 (out + in + 2) +
    3 nnz], half as large) holds `pointers` and `pointers_t` in 32 bits, then in one word of 32 the row of a weight and,
    below it, its place in that row; then `columns` in 16.
    """

    table: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, positions: Tensor, shape: tuple[int, int], narrow: bool = False) -> Index:
        """From ascending flat positions [nnz] (int32, int64); narrow if asked for, and the shape allows.

        Raises:
            RegrowError: more connections, rows or columns than 2^31 - 1.
        """
        nnz, (out, width) = positions.numel(), shape
        if max(nnz, out, width) > _MOST:
            raise RegrowError(f"a sparse matrix of shape {shape} with {nnz} connections: none may exceed {_MOST}")
        narrow = narrow and max(shape) <= _NARROW
        size, kind = (1 + narrow) * (out + width + 2) + 3 * nnz, torch.int16 if narrow else torch.int32
        index = cls(lasting(size, kind).to(positions.device), (out, width))
        index.refill(positions)
        return index

    @property
    def narrow(self) -> bool:
        return self.table.dtype is torch.int16

    @property
    def nnz(self) -> int:
        return (self.table.shape[0] - (1 + self.narrow) * (sum(self.shape) + 2)) // 3

    def fits(self, nnz: int) -> bool:
        """Is this a table of so many weights?"""
        return self.table.shape[0] == (1 + self.narrow) * (sum(self.shape) + 2) + 3 * nnz

    def lists(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """pointers, columns, pointers_t, rows, order: views of the table; of a narrow one copies."""
        (out, width), nnz = self.shape, self.nnz
        if self.narrow:
            pointers, pointers_t, both, columns = self._words()
            rows = both >> 16 & 0xFFFF
            return pointers, columns.int() & 0xFFFF, pointers_t, rows, pointers[rows] + (both & 0xFFFF)
        sizes = (out + 1, nnz, width + 1, nnz, nnz)
        pointers, columns, pointers_t, rows, order = self.table.split(sizes)  # type: ignore[no-untyped-call]
        return pointers, columns, pointers_t, rows, order

    def _words(self) -> list[Tensor]:
        """Of a narrow table: pointers, pointers_t, rows and places, all int32, and columns, int16."""
        (out, width), nnz = self.shape, self.nnz
        parts: tuple[Tensor, ...] = self.table.split((2 * out + 2, 2 * width + 2, 2 * nnz, nnz))  # type: ignore[no-untyped-call]
        return [*(part.view(torch.int32) for part in parts[:3]), parts[3]]

    def refill(self, positions: Tensor) -> None:
        """Move, in place, to other ascending flat positions of the same number. Counting sorts, O(nnz + out + in)."""
        if positions.numel() != self.nnz:
            raise RegrowError(f"an index of {self.nnz} connections cannot hold {positions.numel()}: make a new one")
        if native.serves():
            native.index(positions.contiguous(), self.shape, self.table)
        elif self.narrow:
            pointers, columns, pointers_t, rows, order = Index.of(positions, self.shape).lists()
            both = rows << 16 | (order - pointers[rows])
            for part, filled in zip(self._words(), (pointers, pointers_t, both, columns), strict=True):
                part.copy_(filled)
        else:
            reference.fill(self, positions)

    def positions(self) -> Tensor:
        """The ascending flat positions [nnz], int64."""
        (out, width), (pointers, columns, *_) = self.shape, self.lists()
        rows = torch.arange(out, device=columns.device).repeat_interleave(pointers.diff(), output_size=self.nnz)
        return rows * width + columns
