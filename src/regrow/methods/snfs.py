"""Sparse Networks from Scratch: momentum decides where weights grow, and how many each layer may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from regrow.core import growth, scores
from regrow.core.schedules import Cosine, Every, Schedule
from regrow.core.scores import Score, needs_of
from regrow.core.site import Clock, Grow, Site
from regrow.core.topology import Topology
from regrow.methods.base import Method, blind, replaced

Importance = Callable[[Site], float]


def by_momentum(site: Site) -> float:
    """Mean |first moment| of the active weights."""
    return float(site.signal("moment").abs().mean())


def by_magnitude(site: Site) -> float:
    """Mean |w| of the active weights."""
    return float(site.weight.abs().mean())


def by_nonzeros(site: Site) -> float:
    """The number of active weights."""
    return float(site.nnz)


REDISTRIBUTIONS: dict[str, Importance | None] = {
    "none": None,
    "momentum": by_momentum,
    "magnitude": by_magnitude,
    "nonzeros": by_nonzeros,
}


@dataclass(frozen=True, kw_only=True)
class SNFS(Method):
    """Drop the smallest weights of each layer, share the removed total among layers by importance, grow by momentum.

    The total number of weights is kept exactly; a layer's is not, unless `redistribute` is None (Dettmers & Zettlemoyer
    2019, arXiv:1907.04840, alg. 1). Dense momentum makes a training step cost 2 f_S + f_D.

    Args:
        redistribute: a layer's importance; None lets each layer keep its own number.
    """

    drop: Score = scores.magnitude
    grow: Grow = growth.momentum
    redistribute: Importance | None = by_momentum
    fraction: Schedule = Cosine(0.5, 0.005)
    rounding: Callable[[float], int] = math.ceil
    every: Every | None = Every(1000)
    replaces_step: bool = False

    @property
    def needs(self) -> frozenset[str]:
        redistribution = frozenset({"moment"}) if self.redistribute is by_momentum else frozenset()
        return needs_of(self.drop) | needs_of(self.grow) | redistribution

    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        drops = self._drops(sites, clock, fraction)
        total = sum(drops.values())
        return drops if self.redistribute is None else {name: min(total, site.numel) for name, site in sites.items()}

    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        moving = {name: site for name, site in sites.items() if not blind(site, self.needs)}
        drops = self._drops(moving, clock, fraction)
        births = drops if self.redistribute is None else self._shared(moving, drops, self.redistribute)
        index = {name: site.index for name, site in sites.items()}
        for name, site in moving.items():
            index[name] = site.replace(self.drop(site), drops[name], self.grow, births[name])
        return Topology(index, {name: site.shape for name, site in sites.items()})

    def _drops(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None) -> dict[str, int]:
        share = replaced(self.fraction, clock, fraction)
        return {name: min(self.rounding(share * site.nnz), site.nnz - 1) for name, site in sites.items()}

    def _shared(self, sites: Mapping[str, Site], drops: Mapping[str, int], importance: Importance) -> dict[str, int]:
        weight = {name: importance(site) for name, site in sites.items()}
        room = {name: site.numel - site.nnz + drops[name] for name, site in sites.items()}
        return share_out(sum(drops.values()), weight, room)


def share_out(total: int, weight: Mapping[str, float], room: Mapping[str, int]) -> dict[str, int]:
    """`total` in whole numbers proportional to `weight`, none above its `room`; what one cannot take, the others share.

    Needs total <= sum of room. Largest remainders first, ties in order of name.
    """
    given = dict.fromkeys(weight, 0)
    while (left := total - sum(given.values())) > 0:
        free = {name: max(weight[name], 0.0) for name in weight if given[name] < room[name]}
        mass = sum(free.values())
        share = {name: left * (w / mass if mass > 0 else 1 / len(free)) for name, w in free.items()}
        for name in free:
            given[name] += min(int(share[name]), room[name] - given[name])
        rest = total - sum(given.values())
        if rest < len(free):
            open_ = [
                name for name in sorted(free, key=lambda n: (int(share[n]) - share[n], n)) if given[name] < room[name]
            ]
            for name in open_[:rest]:
                given[name] += 1
    return given
