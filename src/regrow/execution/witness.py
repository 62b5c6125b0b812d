"""Witness: what backward passes leave of a layer's dense gradient, on the steps that need it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""G [N, out] and X [N, in]: the dense gradient of a product is G^T X."""

_BLOCK = 1 << 20
"""Entries of the dense gradient that exist at a time."""


class Witness:
    """Keeps the two factors of the dense gradient, a pair for each backward pass; the gradient is formed when it is
    read, a block of rows at a time. Pairs that outgrow the gradient (micro-batches, long sequences) become their sum,
    so that what is kept is never larger than the smaller of the two.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._calls = count()
        self._noted: dict[int, Pair] = {}
        self._pairs: list[Pair] = []
        self._sum: Tensor | None = None

    @property
    def empty(self) -> bool:
        return not self._pairs and self._sum is None

    def forget(self) -> None:
        self._noted, self._pairs, self._sum = {}, [], None

    def watch(self, x: Tensor, y: Tensor) -> None:
        """Note the pair when the gradient of y arrives. A graph that is run twice is noted once."""
        call, x = next(self._calls), x.detach()

        def arrived(grad: Tensor) -> None:
            self._noted[call] = (grad.detach().reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1]))

        y.register_hook(arrived)  # type: ignore[no-untyped-call]

    def accept(self, afresh: bool) -> None:
        """What was noted has accumulated: in a new sum, or in that of the passes before."""
        if afresh:
            self._pairs, self._sum = [], None
        self._pairs += self._noted.values()
        self._noted = {}
        if self._pairs:
            grad, x = self._pairs[0]
            kept = sum(g.numel() + z.numel() for g, z in self._pairs)
            if self._sum is not None or kept > grad.shape[1] * x.shape[1]:
                self._sum, self._pairs = self.total(), []

    def total(self) -> Tensor:
        """The dense gradient [out, in]."""
        return self._rows(slice(None))

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """The dense gradient in blocks of rows: the first row, and the block [rows, in]."""
        out, width = self._sum.shape if self._sum is not None else (t.shape[1] for t in self._pairs[0])
        step = max(1, _BLOCK // max(1, width))
        for first in range(0, out, step):
            yield first, self._rows(slice(first, first + step))

    def _rows(self, rows: slice) -> Tensor:
        block = None if self._sum is None else self._sum[rows]
        for grad, x in self._pairs:
            part = grad[:, rows].t() @ x
            block = part if block is None else block + part
        assert block is not None
        return block
