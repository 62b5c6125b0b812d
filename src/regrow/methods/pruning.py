"""Density schedules: how a method that starts denser comes down to the density of the run, by global magnitude."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.ranking import best
from regrow.core.schedules import Cubic, Every
from regrow.core.select import select
from regrow.core.site import Clock, Site


def start_from(initial: float, final: float | None) -> float:
    """The density a pruned run starts at, which must be known, in (0, 1] and at least the one it ends at."""
    if final is None:
        raise RegrowError("a method that prunes needs density=..., the share of weights that is left in the end")
    if not final <= initial <= 1.0:
        raise RegrowError(
            f"pruning from density {initial:g} to {final:g}: a run that prunes starts at least as dense as it ends, "
            "and at most at 1; change initial=... or density=..."
        )
    return initial


def scheduled(clock: Clock, window: Every, initial: float) -> float:
    """D_t = D_f + (D_0 - D_f) (1 - (t - t_0) / (t_f - t_0))^3, between updates that of the last one.

    t_0 opens the window and t_f is its last update, which reaches the final density exactly; if none falls into the
    window, the first one after it does (Zhu & Gupta 2017, arXiv:1710.01878, eq. 1). Between two updates an exploration
    prunes nothing.
    """
    assert clock.density is not None
    step = clock.step - clock.step % window.interval
    first, last = window.start * clock.total_steps, window.last(clock.total_steps)
    through = 1.0 if step >= last else max(0.0, (step - first) / (last - first))
    return Cubic(initial, clock.density)(through)


def budget(sites: Mapping[str, Site], density: float) -> int:
    """The schedule's whole number of weights."""
    return round(density * sum(site.numel for site in sites.values()))


def pruned(sites: Mapping[str, Site], n: int) -> dict[str, Site]:
    """The sites with the n largest weights of all of them together; ties to the earlier site, the lower position.

    No site is emptied: the largest weight of each comes first. Decided on the CPU, wherever the sites are.
    """
    if n >= sum(site.nnz for site in sites.values()):
        return dict(sites)
    picked = best({name: _worth(site) for name, site in sites.items()}, n)
    return {name: _left(site, picked[name].to(site.index.device)) for name, site in sites.items()}


def _left(site: Site, kept: Tensor) -> Site:
    return site.keep(kept, int(kept.count_nonzero()))


def _worth(site: Site) -> Tensor:
    worth = site.weight.abs().cpu()
    return worth.index_fill(0, select(worth, min(1, site.nnz)), torch.inf)
