"""What a run holds in memory and leaves on disk, on each backend, from its shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regrow.core import packing
from regrow.core.topology import Shape
from regrow.lab.plan.draft import Draft
from regrow.recipe.schema import SGD

_FLOAT, _INDEX = 4, 4
_NARROW = 1 << 16
_ENTRY, _FILE = 330, 3_000
"""Bytes around each tensor of a checkpoint, and around all of them."""
_LINE, _HEADER = 100, 400
"""The same of a ticket."""
_JUDGED = 1_000
"""Samples at a time that are evaluated."""
_LANES = 1.5
"""Of activations, where convolutions are sparse: padded copies in lanes, and pieces between them (measured)."""
_ONCE = 5_000_000
"""What the first steps bring with them: code, scratch memory of threads, slack of the allocator (measured)."""


@dataclass(frozen=True)
class Held:
    """Bytes. `state`: weights, buffers and what the optimizer keeps; `besides`: positions, masks, what was explored.

    `peak` is what the process grows by at most: those, gradients, activations, and what is looked at besides: by the
    widest layer going forward or back, by an update, by the evaluation, or while the first weights are drawn.
    """

    state: int
    besides: int
    gradients: int
    activations: int
    peak: int
    checkpoint: int
    ticket: int


def held(draft: Draft, backend: str | None, explored: dict[str, float]) -> Held:
    """Of a run on `backend`, None for a dense one.

    Args:
        explored: R_s of each site at the end.
    """
    slots, sites = _slots(draft), _Sites(draft, explored)
    compact = draft.net.parameters - sites.numel + sites.nnz
    weights = compact if backend == "sparse" else draft.net.parameters
    kept = compact if backend else draft.net.parameters
    moment = _FLOAT * sites.numel if backend and "dense_moment" in sites.needs else 0
    state = _FLOAT * weights * (1 + slots) + draft.net.buffers + _counters(draft)
    besides = sites.besides(backend) + moment if backend else 0
    gradients = _FLOAT * weights
    passes, batch = draft.net.activations, draft.recipe.batch_size
    lanes = _LANES if backend == "sparse" and any(len(shape) > 2 for shape in sites.shapes.values()) else 1.0
    activations = round(lanes * passes.kept * batch)
    training = gradients + activations + max(passes.backward * batch, sites.update(backend))
    judging = passes.forward * min(_JUDGED, max(draft.sizes.val, draft.sizes.test))
    built = _FLOAT * draft.net.parameters + draft.net.buffers  # a sparse model is dense until it is attached
    files = _FLOAT * kept * (1 + slots) + draft.net.buffers
    return Held(
        state=state,
        besides=besides,
        gradients=gradients,
        activations=activations,
        peak=_ONCE + max(built + sites.drawn, state + besides + max(training, judging)),
        checkpoint=files
        + _counters(draft)
        + 8 * draft.steps
        + _around(draft)
        + moment
        + (sites.packed if backend else 0),
        ticket=_ticket(draft, kept, sites.positions if backend else 0),
    )


class _Sites:
    """The sparse weights, as they are at their most and, `packed`, as a checkpoint has them at the end."""

    def __init__(self, draft: Draft, explored: dict[str, float]) -> None:
        self.shapes, self.moves = draft.net.shapes, bool(draft.moves)
        self.needs = draft.method.needs if draft.method else frozenset()
        self.size = {name: part.numel for name, part in draft.net.parts.items()}
        self.exist = {name: round(density * self.size[name]) for name, density in draft.first.items()}
        self.seen = {name: round(explored[name] * self.size[name]) for name in self.size}
        self.numel, self.nnz = sum(self.size.values()), sum(self.exist.values())
        final = {name: round(density * self.size[name]) for name, density in draft.final.items()}
        self.positions = sum(packing.size(final[name], self.size[name]) for name in self.size)
        seen = sum(packing.size(self.seen[name], self.size[name]) for name in self.size)
        self.packed = self.positions + seen + self.moves * sum(final.values())  # a byte for the age of each

    @property
    def drawn(self) -> int:
        """What drawing the first topology looks at: a number and a place of each weight of the largest site."""
        return (_FLOAT + _INDEX) * max(self.size.values(), default=0)

    def update(self, backend: str | None) -> int:
        """What an update looks at: dense gradients of all sites where they are masked, of one where they are sparse."""
        if backend is None or not self.moves:
            return 0
        dense = bool(self.needs & {"dense_grad", "dense_moment"})
        largest = max(self.size.values())
        return _FLOAT * (largest + dense * (self.numel if backend == "masked" else 0))

    def besides(self, backend: str) -> int:
        """The current topology, births, what was explored; and the mask's bits, or the index."""
        positions = (_INDEX + self.moves) * self.nnz
        lists = (_INDEX * self.seen[n] if self.seen[n] * 64 < self.size[n] else self.size[n] // 8 for n in self.size)
        own = self.numel // 8
        if backend == "sparse":
            own = sum(_index(shape, self.exist[name]) for name, shape in self.shapes.items())
        return positions + sum(lists) + own


def _index(shape: Shape, nnz: int) -> int:
    """Where the weights of a sparse layer are, by rows and by columns: in 16 bits each where a matrix allows it."""
    out, width = shape[0], math.prod(shape[1:])
    narrow = len(shape) == 2 and max(out, width) <= _NARROW
    return _INDEX * (out + width + 2) + (_INDEX // 2 if narrow else _INDEX) * 3 * nnz


def _slots(draft: Draft) -> int:
    """Numbers the optimizer keeps of each weight."""
    optimizer = draft.recipe.optimizer
    return int(optimizer.momentum > 0) if isinstance(optimizer, SGD) else 2


def _counters(draft: Draft) -> int:
    return 0 if isinstance(draft.recipe.optimizer, SGD) else 4 * draft.net.tensors


def _around(draft: Draft) -> int:
    buffers = sum(1 for _ in draft.net.model.buffers())
    tensors = draft.net.tensors * (1 + _slots(draft)) + buffers + 3 * len(draft.net.parts)
    return _FILE + _ENTRY * tensors


def _ticket(draft: Draft, kept: int, positions: int) -> int:
    names = draft.net.tensors + 2 * len(draft.net.parts)
    return math.ceil(_FLOAT * kept + draft.net.buffers + positions + _HEADER + _LINE * names)
