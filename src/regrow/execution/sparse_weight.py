"""SparseWeight: the surviving weights of one layer, and what follows them through its changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core import positions
from regrow.core.patterns import UNSTRUCTURED, Candidates, Pattern, best_of, candidates
from regrow.core.topology import Topology
from regrow.execution.optimizers import decay_of, first_moment, group_of
from regrow.execution.parts import Part
from regrow.execution.passes import Passes
from regrow.execution.scratch import housed, lowered, passing
from regrow.execution.sparse_layer import SparseLayer
from regrow.execution.sparse_sites import sparse_kind
from regrow.execution.witness import Witness

Change = Callable[[Tensor, float], Tensor]
"""(a vector over the old positions, what a fresh entry holds) -> the vector over the new ones."""


_CROWD = 2
"""Candidates, in multiples of those wanted, from which on the worse ones are dropped before the end."""


class SparseWeight:
    """The weights of one layer: their positions, their optimizer state, and what is kept of the dense gradient.

    Its sites are all of its rows, or parts of them; rows that belong to no site are whole.
    """

    def __init__(
        self,
        layer: nn.Module,
        parts: Sequence[Part],
        topology: Topology,
        optimizer: Optimizer | None,
        fresh: dict[str, float],
        passes: Passes,
    ) -> None:
        self.parameter, self.parts = cast(nn.Parameter, layer.weight), sorted(parts, key=lambda part: part.start)
        self.numel = prod(layer.shape) if isinstance(layer, SparseLayer) else self.parameter.numel()
        self.target = {part.name: topology.nnz_of(part.name) for part in parts}
        self.fresh, self._optimizer, self._passes = fresh, optimizer, passes
        at = self._cover(topology)
        self.moment: Tensor | None = None
        self._raw: Tensor | None = None  # the gradient as it arrived: before clipping and unscaling
        self._built, self._housed = isinstance(layer, SparseLayer), False
        if isinstance(layer, SparseLayer):
            self.layer, self.at = layer, layer.positions().to(at.dtype)
            self._move(at, None)
        else:
            self._carry(lambda dense, _: dense.reshape(-1)[at], partial(sparse_kind(layer).take_over, layer, at))
            self.layer, self.at = cast(SparseLayer, layer), at
        self.width = prod(self.layer.shape[1:])  # of a row of the dense weight
        self.layer.held = True
        self.witness, self.wanted = Witness(self.layer.gradient, self.layer.rivals), False
        self._births: Mapping[str, int] | None = None
        self._pattern: Pattern = UNSTRUCTURED
        self._handles = [self.parameter.register_hook(self._arriving)] if self.parameter.requires_grad else []  # type: ignore[no-untyped-call]

    def _cover(self, topology: Topology) -> Tensor:
        """The flat positions of all weights."""
        if self.parts[0].numel == self.numel:
            return topology.index(self.parts[0].name)
        pieces, end = [], 0
        for part in self.parts:
            pieces += [torch.arange(end, part.start), topology.index(part.name).long() + part.start]
            end = part.start + part.numel
        return torch.cat([*pieces, torch.arange(end, self.numel)])

    def of(self, part: Part, vector: Tensor) -> Tensor:
        """Its stretch of a vector over all weights."""
        if part.numel == self.numel:
            return vector
        return vector[self._stretch(part.start, part.start + part.numel)]

    def _own(self, part: Part) -> Tensor:
        """The flat positions of its weights, within it."""
        at = self.of(part, self.at)
        return at - part.start if part.start else at

    def _stretch(self, start: int, end: int) -> slice:
        """The weights at flat positions from start to end."""
        low, high = torch.searchsorted(self.at, torch.tensor([start, end], dtype=self.at.dtype)).tolist()
        return slice(low, high)

    def want(
        self,
        dense: bool,
        births: Mapping[str, int] | None = None,
        pattern: Pattern = UNSTRUCTURED,
        raw: bool = True,
    ) -> None:
        """Shall the coming backward passes leave the dense gradient? Of births candidates do, and the `raw` one."""
        self.forget()
        self.wanted, self._keeps_raw = dense, raw or births is None
        self._births, self._pattern = births, pattern
        if dense:
            self.witness.watch(self.layer.index.table)

    def forget(self) -> None:
        self.witness.forget()
        self._raw = None

    def _arriving(self, grad: Tensor) -> None:
        """Sum over micro-batches, which accumulate until zero_grad; then a new sum begins."""
        before = self.parameter.grad
        goes_on = before is not None and bool(before.any())
        self._passes.note(goes_on)
        if self.wanted:
            with torch.autocast("cpu", enabled=False):
                self._take_in(grad.detach(), goes_on)

    @torch.no_grad()
    def _take_in(self, grad: Tensor, goes_on: bool) -> None:
        last = self._births is not None and self._passes.single
        lent = last and not self._keeps_raw  # candidates are all that stays of it
        afresh = not goes_on or (self._raw is None and self.witness.empty)
        if not afresh and self._raw is not None:
            self._raw = self._raw + grad
        elif lent:
            self._raw = grad
        else:  # a copy that is not turned into candidates at once may become a moment, and stay
            room = passing(grad.numel(), grad.dtype) if self._births is not None else torch.empty_like(grad)
            self._raw = room.copy_(grad)
        if self.layer.whole:  # this is the dense gradient
            self.witness.hold(self._raw.view(-1, self.width))
        else:
            self.witness.accept(afresh, last)
        if last and self._births is not None and not self.witness.empty:
            self._reduce(self._births)
        if lent:
            self._raw = None

    def _reduce(self, births: Mapping[str, int]) -> None:
        """Keep the best candidates only, before the backward pass reaches the next layer."""
        growing = [part for part in self.parts if part.name in births]
        self.witness.reduce({p.name: self.candidates(p, self._pattern, births[p.name], False) for p in growing})

    def grad(self, raw: bool) -> Tensor:
        """The gradient at the active weights: in the scale of the dense one, or as the optimizer sees it."""
        grad = self._raw if raw and self._raw is not None else self.parameter.grad
        return torch.zeros_like(self.parameter) if grad is None else grad.detach()

    def first_moment(self, dense: bool) -> Tensor:
        """At the active weights: the optimizer's, or that of the dense momentum."""
        if dense:
            moment = None if self.moment is None else self.moment.reshape(-1)[self.at]
        else:
            moment = None if self._optimizer is None else first_moment(self._optimizer, self.parameter)
        return torch.zeros_like(self.parameter) if moment is None else moment.detach()

    def candidates(self, part: Part, pattern: Pattern, k: int, by_moment: bool) -> Candidates | None:
        """The k best inactive positions by the dense signal; None for a layer that no backward pass reached."""
        if by_moment:
            dense = None if self.moment is None else part.of(self.moment).view(part.shape)
            return None if dense is None else candidates(pattern, dense, self._own(part), k)
        if self.witness.best is not None:
            return self.witness.best[part.name]
        if self.witness.empty or 0 in part.shape:
            return None
        best = _lowered(self._contended(_lowered(self._inactive(part, pattern, k)), part, k))
        reached = bool(best.score.count_nonzero()) or (self._raw is not None and bool(self._raw.count_nonzero()))
        return best if reached else None

    def _inactive(self, part: Part, pattern: Pattern, k: int) -> Candidates:
        if k == 0:
            return Candidates(self.at[:0], self.parameter.detach()[:0])
        rows = range(part.start // self.width, part.start // self.width + part.shape[0])
        rivals = self.witness.rivals(rows, self._own(part), k) if pattern == UNSTRUCTURED else None
        return self._by_blocks(part, pattern, rows, k) if rivals is None else best_of([Candidates(*rivals)], k)

    def _contended(self, found: Candidates, part: Part, k: int) -> Candidates:
        return found if self._raw is None else found.with_active(self._own(part), self.of(part, self._raw), k)

    def _by_blocks(self, part: Part, pattern: Pattern, rows: range, k: int) -> Candidates:
        found: list[Candidates] = []
        worst = -torch.inf  # what scores no higher cannot be among the k best
        for first, block in self.witness.blocks(rows):
            found.append(self._within(part, pattern, k, first, block, worst))
            many = sum(some.score.numel() for some in found)
            if many > _CROWD * k or (worst == -torch.inf and many >= k > 0):
                found = [best_of(found, k)]
                worst = float(found[0].score.min()) if k else worst
        return best_of(found, k)

    def _within(self, part: Part, pattern: Pattern, k: int, row: int, block: Tensor, above: float) -> Candidates:
        first = row * self.width
        at = self.at[self._stretch(first, first + block.numel())] - first
        found = pattern.collect(block, at, k, above)
        return Candidates(found.position + (first - part.start), found.score)

    def remember(self) -> None:
        """moment <- decay moment + g, with g in the scale the optimizer saw (unscaled, clipped).

        Out of place: whoever holds a saved state keeps it.
        """
        grad, raw = self.parameter.grad, self._raw
        if not self.witness.empty and grad is not None and raw is not None:
            dense = self.witness.total()
            seen, was = grad.double().norm(), raw.double().norm()
            dense = dense * float(seen / was) if was > 0 else dense
            self.moment = dense if self.moment is None else self.moment * self._decay() + dense
        self.forget()

    def move(self, topology: Topology, reborn: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """To another topology: what stays keeps value and state, births start at zero, fresh. By site, what is new."""
        again = [reborn[part.name] + part.start for part in self.parts if part.name in reborn]
        born = self._move(self._cover(topology), torch.cat(again) if again else None)
        if self.parts[0].numel == self.numel:
            return {self.parts[0].name: born}
        return {part.name: _inside(born, part) for part in self.parts}

    def _move(self, at: Tensor, reborn: Tensor | None) -> Tensor:
        match = positions.match(self.at, at)
        new = at.numel() - match.both
        born = positions.only(at, positions.unset(match.known), new)
        if reborn is None and new == 0 and at.numel() == self.at.numel():
            return born
        if reborn is not None:
            match = match.without(reborn, self.at, at)

        def change(values: Tensor, fresh: float) -> Tensor:
            return positions.carry(values, match, fresh, values if values.numel() == at.numel() else None)

        self._carry(change, lambda: self.layer.move(at, change(self.parameter.detach(), 0.0)))
        self.at = at
        return born

    def adopt(self, topology: Topology) -> None:
        """The topology of a checkpoint, whose optimizer state the caller loads."""
        at = self._cover(topology)
        loaded, self.layer.loaded = self.layer.loaded, None
        weight = self.parameter.detach()
        if loaded is None:
            values = positions.carry(weight, positions.match(self.at, at), 0.0)
        else:
            values = loaded.reshape(-1)[at].to(weight)
        self.layer.move(at, values)
        self.parameter.grad, self.at, self._housed = None, at, False
        self.forget()

    def leave(self) -> None:
        """Give the layer back as it came, with its gradient and optimizer state."""
        for handle in self._handles:
            handle.remove()
        self.want(False)
        self.layer.held = False
        if not self._built:
            self._carry(self.layer.dense, self.layer.leave)

    def _carry(self, change: Change, swap: Callable[[], object]) -> None:
        """Take gradient and optimizer state through `change`, one after another, while `swap` does its part to the
        layer. In place where the shape stays: nothing compiled or captured notices."""
        grad, state = self.parameter.grad, self._state()
        new_grad = None if grad is None else change(grad, 0.0)
        new_state = {key: change(value, self.fresh[key]) for key, value in state.items()}
        swap()
        if new_grad is not None:
            self.parameter.grad = new_grad
        if self._optimizer is not None and state:
            self._optimizer.state[self.parameter].update(new_state)

    def _state(self) -> dict[str, Tensor]:
        """The optimizer's entries shaped like the parameter: found by shape, never by type."""
        state = {} if self._optimizer is None else self._optimizer.state.get(self.parameter, {})
        shape = self.parameter.shape
        return {k: v for k, v in state.items() if k in self.fresh and isinstance(v, Tensor) and v.shape == shape}

    def house(self) -> bool:
        """Once the optimizer has made its state, move it out of the heap, where it would lie between what comes and
        goes. Was there any to move?"""
        if self._housed or self._optimizer is None:
            return False
        self._housed, state = True, self._state()
        moved = {key: room for key, value in state.items() if (room := housed(value)) is not value}
        self._optimizer.state[self.parameter].update(moved)
        return bool(moved)

    def _decay(self) -> float:
        group = None if self._optimizer is None else group_of(self._optimizer, self.parameter)
        return decay_of(group or {})


def _lowered(some: Candidates) -> Candidates:
    return Candidates(lowered(some.position), lowered(some.score))


def _inside(at: Tensor, part: Part) -> Tensor:
    """Those of ascending positions that are the part's, counted from its start."""
    low, high = torch.searchsorted(at, torch.tensor([part.start, part.start + part.numel], dtype=at.dtype)).tolist()
    return at[low:high] - part.start
