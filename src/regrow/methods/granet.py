"""GraNet: prune gradually, and let each layer drop and grow at every density on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from regrow.core import growth, scores
from regrow.core.errors import RegrowError
from regrow.core.schedules import Cosine, Every, Schedule
from regrow.core.scores import Score
from regrow.core.site import Clock, Grow, Site
from regrow.core.topology import Topology
from regrow.methods.base import Method, replaced
from regrow.methods.drop_grow import DropGrow
from regrow.methods.pruning import budget, pruned, scheduled, start_from


@dataclass(frozen=True, kw_only=True)
class GraNet(Method):
    """Global magnitude pruning to the cubic schedule, then drop and grow layer by layer, what was pruned included.

    Liu et al. 2021, arXiv:2106.10404. Drop and grow go on after the pruning has ended.

    Args:
        initial: D_0, the density at the start.
        until: share of the run at which the pruning ends, within the window of `every`.
        drop, grow, fraction, rounding: as in DropGrow.
    """

    initial: float = 0.5
    until: float = 0.5
    drop: Score = scores.magnitude
    grow: Grow = growth.gradient
    fraction: Schedule = Cosine(0.5, 0.005)
    rounding: Callable[[float], int] = math.ceil
    every: Every | None = Every(1000)
    replaces_step: bool = False

    def __post_init__(self) -> None:
        if self.every is not None and not self.every.start < self.until <= self.every.end:
            raise RegrowError(
                f"until={self.until:g}: pruning ends while there are updates, which go from {self.every.start:g} to "
                f"{self.every.end:g} of the run; change until=... or the window of every=..."
            )

    @property
    def needs(self) -> frozenset[str]:
        return self._move.needs

    def initial_density(self, density: float | None) -> float | None:
        return start_from(self.initial, density)

    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        share = replaced(self.fraction, clock, fraction)
        return {name: self.rounding(share * site.nnz) for name, site in sites.items()}  # pruning only makes them fewer

    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        assert self.every is not None
        density = scheduled(clock, replace(self.every, end=self.until), self.initial)
        return self._move.update(pruned(sites, budget(sites, density)), clock, fraction)

    @property
    def _move(self) -> DropGrow:
        """What follows the pruning, at the density it has left."""
        return DropGrow(drop=self.drop, grow=self.grow, fraction=self.fraction, rounding=self.rounding)
