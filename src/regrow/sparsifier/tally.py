"""Tally: how dense each site has been over a run, which is all that its FLOPs depend on."""

from __future__ import annotations

from collections.abc import Mapping

from regrow.core.topology import Topology


class Tally:
    """Weights of each site, summed over the steps that were taken with them.

    FLOPs are linear in densities, so the mean densities of a run give its mean cost.

    Args:
        sums: of a run that is taken up, after `steps`.
    """

    def __init__(self, topology: Topology, sums: Mapping[str, int] | None = None, steps: int = 0) -> None:
        self._sums = {name: sums[name] if sums else 0 for name in topology}
        self._steps = steps

    def count(self, topology: Topology, steps: int) -> dict[str, int]:
        """The sums, once all steps up to `steps` that were not counted yet are: they were taken on this topology."""
        more = steps - self._steps
        self._sums = {name: total + topology.nnz_of(name) * more for name, total in self._sums.items()}
        self._steps = steps
        return dict(self._sums)

    def densities(self, topology: Topology, steps: int) -> dict[str, float]:
        """Site -> mean density over all steps up to `steps`; before the first, that of the topology."""
        sums = self.count(topology, steps)
        numels = {name: steps * topology.numel_of(name) for name in topology}
        return {name: sums[name] / numels[name] for name in topology} if steps else topology.densities()
