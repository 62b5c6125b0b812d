"""Drop and grow, layer by layer: SET, RigL and ITOP are settings of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from regrow.core import growth, scores
from regrow.core.schedules import Cosine, Every, Schedule
from regrow.core.scores import Score, needs_of
from regrow.core.site import Clock, Grow, Site
from regrow.core.topology import Topology
from regrow.methods.base import Method, blind, replaced


@dataclass(frozen=True, kw_only=True)
class DropGrow(Method):
    """Each site drops its `fraction` lowest-scored weights and grows as many elsewhere.

    Args:
        drop: which weights are worth keeping.
        grow: where new ones appear; what was just dropped may grow again.
        fraction: share of the active weights replaced, over the progress of `every`.
        below: drop only weights with |w| below this (threshold drop; then `fraction` is the most that may go).
        rounding: whole number of weights from the share: RigL's code rounds down, ITOP's up.
    """

    drop: Score = scores.magnitude
    grow: Grow = growth.random
    fraction: Schedule = Cosine(0.3)
    below: float = math.inf
    rounding: Callable[[float], int] = math.floor
    every: Every | None = Every(100)
    replaces_step: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.drop) | needs_of(self.grow)

    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        return {name: self._most(site, clock, fraction) for name, site in sites.items()}

    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        index = {name: self._moved(site, clock, fraction) for name, site in sites.items()}
        return Topology(index, {name: site.shape for name, site in sites.items()})

    def _moved(self, site: Site, clock: Clock, fraction: float | None) -> Tensor:
        drop = 0 if blind(site, self.needs) else self._most(site, clock, fraction)
        if self.below < math.inf:
            drop = min(drop, int((site.weight.abs() < self.below).sum()))
        return site.replace(self.drop(site), drop, self.grow) if drop else site.index

    def _most(self, site: Site, clock: Clock, fraction: float | None) -> int:
        share = replaced(self.fraction, clock, fraction)
        return self.rounding(share * site.nnz) if site.nnz < site.numel else 0
