"""What a run holds in memory and leaves on disk, on each backend, from its shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from regrow.core import packing
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.net import io_of
from regrow.recipe.schema import SGD

_FLOAT, _INDEX = 4, 4
_ENTRY, _FILE = 330, 3_000
"""Bytes around each tensor of a checkpoint, and around all of them."""
_LINE, _HEADER = 100, 400
"""The same of a ticket."""


@dataclass(frozen=True)
class Held:
    """Bytes. `state`: weights, buffers and what the optimizer keeps; `besides`: positions, masks, what was explored.

    `peak` is what the process grows by at most: those, gradients, activations, and what an update looks at.
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
    activations = draft.net.activations * draft.recipe.batch_size
    update = _FLOAT * sites.numel if backend == "masked" and sites.needs & {"dense_grad", "dense_moment"} else 0
    built = _FLOAT * draft.net.parameters + draft.net.buffers  # a sparse model is dense until it is attached
    files = _FLOAT * kept * (1 + slots) + draft.net.buffers
    return Held(
        state=state,
        besides=besides,
        gradients=gradients,
        activations=activations,
        peak=max(state + besides + gradients + activations + update, built),
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

    def besides(self, backend: str) -> int:
        """The first topology and the current one, births, what was explored; and the mask's bits, or the index."""
        positions = _INDEX * self.nnz * (1 + self.moves) + self.nnz * self.moves
        lists = (_INDEX * self.seen[n] if self.seen[n] * 64 < self.size[n] else self.size[n] // 8 for n in self.size)
        own = self.numel // 8
        if backend == "sparse":
            own = _INDEX * (3 * self.nnz + io_of(self.shapes) + 2 * len(self.shapes))
        return positions + sum(lists) + own


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
