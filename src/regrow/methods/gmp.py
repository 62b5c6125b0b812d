"""Gradual magnitude pruning: from dense to sparse, and nothing grows again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regrow.core.schedules import Every
from regrow.core.site import Clock, Site
from regrow.core.topology import Topology
from regrow.methods.base import Method, topology_of
from regrow.methods.pruning import budget, pruned, scheduled, start_from


@dataclass(frozen=True, kw_only=True)
class GMP(Method):
    """Each update keeps the largest weights of the whole network, as many as the cubic schedule has left.

    With a single update in the run it is one-shot pruning, and what follows is fine-tuning.

    Args:
        initial: D_0, the density at the start.
        every: the pruning; the last update leaves exactly the density of the run.
    """

    initial: float = 1.0
    every: Every | None = Every(1000, end=0.75)
    replaces_step: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def initial_density(self, density: float | None) -> float | None:
        return start_from(self.initial, density)

    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        return dict.fromkeys(sites, 0)

    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        assert self.every is not None
        return topology_of(pruned(sites, budget(sites, scheduled(clock, self.every, self.initial))))
