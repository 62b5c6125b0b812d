"""Witness: what backward passes leave of a layer's dense gradient, on the steps that need it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from regrow.core.patterns import Candidates
from regrow.execution import rivals
from regrow.execution.ops import LISTENERS, lanes

Pair = tuple[Tensor, Tensor]
"""G and X, of a backward pass."""

Form = Callable[[Tensor, Tensor, slice], Tensor]
"""(G, X, rows) -> these rows of the dense gradient [out, in]; of a product G^T X."""

Find = Callable[[Tensor, Tensor, Tensor, int], Pair | None]
"""(G, X, active, k) -> of factors that are images, the k best entries that are not active; None if not that way."""

_BLOCK = 1 << 18
"""Entries of the dense gradient that exist at a time: they fit a core's cache, and their memory is used again."""

_TOO_LATE = (
    "a second backward pass adds to the gradient of a topology update, where no step before took more than one: the "
    "first one's has been reduced to its best candidates, so this update grows by the passes after it. Later updates "
    "grow by the sum of all passes."
)


class Witness:
    """Keeps the two factors of the dense gradient, a pair for each backward pass; the gradient is formed when it is
    read, a block of rows at a time. Pairs that outgrow the gradient (micro-batches, long sequences) become their sum,
    so that what is kept is never larger than the smaller of the two; and where no pass will follow, their best.
    """

    best: Mapping[str, Candidates | None] | None
    """By site, all that is left of the gradient once it has been reduced."""

    def __init__(self, form: Form, find: Find) -> None:
        self._form, self._find = form, find
        self._table: Tensor | None = None
        self._pass = -1
        self.forget()

    @property
    def empty(self) -> bool:
        return not self._pairs and self._sum is None and self.best is None

    def forget(self) -> None:
        """Keep nothing, watch nothing."""
        self._noted: list[Pair] = []
        self._pairs: list[Pair] = []
        self._sum: Tensor | None = None
        self.best = None
        if self._table is not None:
            LISTENERS.pop(self._table.data_ptr(), None)
            self._table = None

    def watch(self, table: Tensor) -> None:
        """From here on, note what the backward passes over this index are given."""
        self._table = table  # kept, so that no other index can come to lie at its address
        LISTENERS[table.data_ptr()] = self

    def note(self, grad: Tensor, x: Tensor) -> None:
        """Called from inside a backward pass. One before that never came to the weight was not its own: an attack."""
        this = torch._C._current_graph_task_id()
        if this != self._pass:
            self._noted, self._pass = [], this
        self._noted.append((grad.detach(), x.detach()))

    def hold(self, dense: Tensor) -> None:
        """The dense gradient itself."""
        self._noted, self._pairs, self._sum, self.best = [], [], dense, None

    def reduce(self, best: Mapping[str, Candidates | None]) -> None:
        """Of all that has accumulated, keep this."""
        self._pairs, self._sum, self.best = [], None, best

    def accept(self, afresh: bool, last: bool) -> None:
        """What was noted has accumulated, in a new sum or that of the passes before; the `last` is reduced at once."""
        if afresh:
            self._pairs, self._sum = [], None
        elif self.best is not None:
            warnings.warn(_TOO_LATE, RuntimeWarning, stacklevel=2)
        self.best = None
        self._pairs += self._noted if last else [(grad, _own(x)) for grad, x in self._noted]
        self._noted = []
        if not (last and len(self._pairs) == 1 and self._sum is None):
            self._settle()

    def _settle(self) -> None:
        """What is larger than the gradient becomes the gradient."""
        if self._pairs:
            grad, x = self._pairs[0]
            kept = sum(g.numel() + z.numel() for g, z in self._pairs)
            if self._sum is not None or grad.dim() > 2 or kept > grad.shape[1] * x.shape[1]:  # images are always more
                self._sum, self._pairs = self.total(), []

    def rivals(self, rows: range, active: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
        """Of these rows, the k largest entries that are not active, and perhaps more: ascending positions and sizes.
        None where they must be read in blocks."""
        grads, inputs = ([pair[side] for pair in self._pairs] for side in (0, 1))
        if self._sum is None and len(self._pairs) == 1 and grads[0].dim() > 2:
            return self._find(grads[0], inputs[0], active, k)
        if self._sum is not None or not rivals.serves(*grads, *inputs):
            return None
        grad, x = (several[0] if len(several) == 1 else torch.cat(several) for several in (grads, inputs))
        return rivals.of_product(grad[:, rows.start : rows.stop], x, active, k)

    def total(self) -> Tensor:
        """The dense gradient [out, in]."""
        return self._rows(slice(None))

    def blocks(self, rows: range) -> Iterator[tuple[int, Tensor]]:
        """These rows of the dense gradient, in blocks: the first row, and the block [rows, in]."""
        self._settle()
        width = (self._pairs[0][1] if self._sum is None else self._sum).shape[1]
        step = max(1, _BLOCK // max(1, width))
        for first in rows[::step]:
            yield first, self._rows(slice(first, min(first + step, rows.stop)))

    def _rows(self, rows: slice) -> Tensor:
        block = None if self._sum is None else self._sum[rows]
        for grad, x in self._pairs:
            part = self._form(grad, x, rows)
            block = part if block is None else block + part
        assert block is not None
        return block


def _own(x: Tensor) -> Tensor:
    """Inputs that are kept for a while, in which the user may fill his anew: in lanes, as no user has them."""
    return lanes(x) if x.dim() == 2 else x
