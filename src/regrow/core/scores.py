"""Scores: Site -> how much each active weight is worth having, [nnz]. A score names the signals it reads in `needs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from regrow.core import positions
from regrow.core.site import Site

Score = Callable[[Site], Tensor]
Rule = TypeVar("Rule", bound=Callable[..., Tensor])


def needing(*signals: str) -> Callable[[Rule], Rule]:
    """Marks a score or growth rule with the signals it reads."""

    def mark(rule: Rule) -> Rule:
        rule.needs = frozenset(signals)  # type: ignore[attr-defined]
        return rule

    return mark


def needs_of(rule: Callable[..., Tensor]) -> frozenset[str]:
    """The signals a score or growth rule reads; none by default."""
    needs: frozenset[str] = getattr(rule, "needs", frozenset())
    return needs


def magnitude(site: Site) -> Tensor:
    """|w|."""
    return torch.abs(site.weight, out=positions.room(site.nnz, site.weight.dtype, site.weight.device))


def signed(site: Site) -> Tensor:
    """Rank of |w| among the weights of its own sign, in (0, 1]: the lowest are the smallest positive and the largest
    negative weights, the same share of each (SET: Mocanu et al. 2018, arXiv:1707.04780, alg. 1)."""
    score = torch.empty_like(site.weight, dtype=torch.float64)  # half precision cannot count to nnz
    negative = site.weight < 0
    for side in (~negative, negative):  # a NaN is on one of them, too
        at = positions.where(side)
        order = site.weight[at].abs().argsort(stable=True)
        score[at[order]] = torch.arange(1, at.numel() + 1, device=at.device, dtype=score.dtype) / max(at.numel(), 1)
    return score


def random(site: Site) -> Tensor:
    """Uniform in [0, 1), drawn on the CPU so that every device agrees."""
    return torch.rand(site.nnz, generator=site.generator).to(site.weight.device)


@needing("grad")
def gradient(site: Site) -> Tensor:
    """|dL/dw|."""
    return site.signal("grad").abs()


@needing("moment")
def momentum(site: Site) -> Tensor:
    """|first moment|."""
    return site.signal("moment").abs()


@needing("grad")
def taylor(site: Site) -> Tensor:
    """|w dL/dw|, the first-order change of the loss (Molchanov et al. 2017, arXiv:1611.06440, eq. 7)."""
    return (site.weight * site.signal("grad")).abs()
