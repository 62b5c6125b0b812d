"""Explored: which weights have ever existed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from regrow.core import bits, positions
from regrow.core.topology import Topology

_CROWDED = 64
"""Places per position below which a table of bits is no larger than two lists of positions."""


class Explored:
    """The union of the topologies so far, which grows in place: positions while few, then a bit a weight."""

    def __init__(self, topology: Topology) -> None:
        self._shapes, self._numel = topology.shapes, {name: topology.numel_of(name) for name in topology}
        self._nnz = dict.fromkeys(topology, 0)
        self._listed: dict[str, Tensor] = {}
        self._tables: dict[str, Tensor] = {}
        self.add({name: topology.index(name) for name in topology})

    @property
    def density(self) -> float:
        """R_s: their share of all weights."""
        return sum(self._nnz.values()) / max(sum(self._numel.values()), 1)

    @property
    def topology(self) -> Topology:
        """What has been explored, written out."""
        return Topology({name: self.index(name) for name in self._shapes}, self._shapes)

    def index(self, name: str) -> Tensor:
        """Flat positions ever active, ascending."""
        if name in self._listed:
            return self._listed[name]
        return bits.listed(self._tables[name], self._nnz[name], positions.dtype_for(self._numel[name]))

    def add(self, born: Mapping[str, Tensor]) -> None:
        """These exist now: by site, ascending positions."""
        for name, at in born.items():
            if name in self._tables:
                self._mark(name, at)
            else:
                listed = self._listed.get(name)
                self._list(name, at if listed is None else positions.union(listed.to(at.device), at))

    def _mark(self, name: str, at: Tensor) -> None:
        self._tables[name] = self._tables[name].to(at.device)
        self._nnz[name] += bits.mark(self._tables[name], at)

    def _list(self, name: str, at: Tensor) -> None:
        if self._numel[name] > _CROWDED * at.numel():
            self._listed[name], self._nnz[name] = at, at.numel()
            return
        self._listed.pop(name, None)
        self._tables[name], self._nnz[name] = bits.none(self._numel[name], at.device), 0
        self._mark(name, at)
