"""Site: what a method may look at for one sparse parameter, however it is stored and executed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, Literal

from torch import Generator, Tensor

from regrow.core import positions
from regrow.core.patterns import UNSTRUCTURED, Candidates, Pattern
from regrow.core.select import chosen
from regrow.core.topology import Shape

Signal = Literal["grad", "moment"]
_LATE = ("index", "weight", "grad", "moment")


@dataclass(frozen=True)
class Clock:
    """Where a run stands: `step` of `total_steps`; `progress` through the method's update window, in [0, 1].

    `density` is what the run is to end with; None where only a first topology was given.
    """

    step: int
    total_steps: int
    progress: float
    density: float | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One sparse parameter. Signals are present only if the method's `needs` names them.

    Args:
        name, shape: the parameter (or its part) in the model.
        index: flat positions of the active weights, ascending, [nnz].
        weight: active values, [nnz].
        target: the nnz the site was created with.
        generator: random numbers, a function of (seed, step, name).
        pattern: which supports are legal.
        grad: gradient at the active weights, [nnz].
        moment: first moment at the active weights, [nnz].
        candidates: the best positions to grow by a dense signal, active ones included that would be, were they dropped.
        explored: flat positions ever active.
    """

    name: str
    shape: Shape
    index: Tensor
    weight: Tensor
    target: int
    generator: Generator = field(default_factory=Generator)
    pattern: Pattern = UNSTRUCTURED
    grad: Tensor | None = None
    moment: Tensor | None = None
    candidates: Candidates | None = None
    explored: Tensor | None = None
    _whole: tuple[Site, Tensor, int] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def nnz(self) -> int:
        return self.index.numel()

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def signal(self, name: Signal) -> Tensor:
        """`grad` or `moment`, which a method that declared it in `needs` always finds."""
        value = self.grad if name == "grad" else self.moment
        if value is None:
            raise ValueError(f"site {self.name!r} has no {name!r}: the method must name it in `needs`")
        return value

    def holds(self, places: Tensor) -> Tensor:
        """Which of these positions, ascending, are active? Bool."""
        if self._whole is None:
            return positions.contains(self.index, places)
        whole, kept, _ = self._whole
        flags = positions.room(places.numel(), kept.dtype, places.device)
        return positions.carry(kept, positions.match(whole.index, places), 0.0, flags)

    def replace(self, drop_score: Tensor, drop: int, grow: Grow, births: int | None = None) -> Tensor:
        """The new index: without the `drop` lowest-scored weights, with `births` (default: as many) grown ones.

        What was just dropped may grow again, as in RigL and ITOP; such a weight keeps its value.
        """
        n = self.nnz - drop
        kept = chosen(drop_score, n)
        del drop_score  # it is as large as the weights
        left = self.keep(kept, n)
        grown = grow(left, drop if births is None else births).to(self.index.dtype)
        room = positions.lasting(n + grown.numel(), grown.dtype, grown.device)
        return positions.union(left.index, grown, room)

    def keep(self, kept: Tensor, n: int) -> Site:
        """The site with the n of its active weights alone that are flagged in `kept`; the others may grow again.

        What it has of this one's vectors it takes once they are read, as few rules read them all.
        """
        left = object.__new__(Site)
        held = {own.name: getattr(self, own.name) for own in fields(self) if own.name not in _LATE}
        for name, value in {**held, "_whole": (self, kept, n)}.items():
            object.__setattr__(left, name, value)
        return left

    def __getattr__(self, name: str) -> Any:
        if name not in _LATE or self._whole is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        whole, kept, n = self._whole
        vector = getattr(whole, name)
        object.__setattr__(self, name, None if vector is None else positions.only(vector, kept, n))
        return getattr(self, name)


Grow = Callable[[Site, int], Tensor]
"""(site without what was dropped, n) -> n inactive positions, ascending."""
