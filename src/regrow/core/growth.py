"""Growth rules: (site, n) -> n inactive positions, ascending. A rule names the signals it reads in `needs`."""

from __future__ import annotations

from torch import Tensor

from regrow.core import positions
from regrow.core.scores import needing
from regrow.core.site import Grow, Site


def random(site: Site, n: int) -> Tensor:
    """Uniform among all inactive positions, exactly n (SET)."""
    return positions.sample_absent(site.index, site.numel, n, site.generator)


@needing("explored")
def unexplored(site: Site, n: int) -> Tensor:
    """Uniform among the positions never active so far; when they run out, all of them and the rest at random."""
    assert site.explored is not None
    fresh = min(n, site.numel - site.explored.numel())
    grown = positions.sample_absent(site.explored, site.numel, fresh, site.generator)
    if fresh == n:
        return grown
    taken = positions.union(site.index, grown.to(site.index.dtype))
    return positions.union(grown, positions.sample_absent(taken, site.numel, n - fresh, site.generator))


@needing("dense_grad")
def gradient(site: Site, n: int) -> Tensor:
    """The n largest |dL/dw| among inactive positions (RigL: Evci et al. 2020, arXiv:1911.11134)."""
    return _best(site, n)


@needing("dense_moment")
def momentum(site: Site, n: int) -> Tensor:
    """The n largest |first moment| among inactive positions (SNFS: Dettmers & Zettlemoyer 2019, arXiv:1907.04840)."""
    return _best(site, n)


def _best(site: Site, n: int) -> Tensor:
    candidates = site.candidates
    assert candidates is not None
    return candidates.best(n, site.holds(candidates.position))


GROWTHS: dict[str, Grow] = {"random": random, "unexplored": unexplored, "gradient": gradient, "momentum": momentum}
