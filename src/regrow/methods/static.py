"""Static: the topology drawn at the start stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regrow.core.schedules import Every
from regrow.core.site import Clock, Site
from regrow.core.topology import Topology
from regrow.methods.base import Method, topology_of


@dataclass(frozen=True)
class Static(Method):
    """Never updates: training from a fixed mask."""

    every: Every | None = None
    replaces_step: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        return dict.fromkeys(sites, 0)

    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        return topology_of(sites)
