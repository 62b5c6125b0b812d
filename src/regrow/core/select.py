"""The one selection. Every method chooses connections through here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regrow.core.positions import where

_LARGE = 1 << 16
"""Scores from which on a sample pays."""


def select(score: Tensor, n: int, among: Tensor | None = None) -> Tensor:
    """Positions of the n highest scores, ascending; ties go to the lower position. A NaN ranks below everything.

    No full sort: in a large tensor a sample brackets the n-th score, so that `torch.topk` sees only what lies between.

    Args:
        score: [N], any real dtype.
        n: how many, 0 <= n <= the number of eligible positions.
        among: eligible positions, ascending; all of them by default.

    Returns:
        [n] int64, a subset of `among`.
    """
    if among is not None:
        return among[select(score[among], n)].long()
    if not 0 <= n <= score.numel():
        raise ValueError(f"cannot select {n} of {score.numel()} positions")
    if score.numel() < _LARGE:
        return _best(score, n)
    low, high = _bracket(score, n)
    eligible = where(score >= low)
    score_of = score[eligible]
    chosen = score_of > high
    doubtful = where(~chosen)
    wanted = n - int(chosen.count_nonzero())
    if not 0 <= wanted <= doubtful.numel():  # the sample misled: rare, and costs time only
        return _best(score, n)
    chosen[doubtful[_best(score_of[doubtful], wanted)]] = True
    return eligible[chosen]


def _bracket(score: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Two scores that the n-th highest very likely lies between, from a regular sample."""
    sample = score[:: math.isqrt(score.numel()) // 4]
    ordered = sample.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).sort(descending=True).values
    rank = n / score.numel() * ordered.numel()
    reach = 4 * math.sqrt(rank * (1 - n / score.numel())) + 4  # four standard deviations of the rank
    last = ordered.numel() - 1
    return ordered[min(math.ceil(rank + reach), last)], ordered[min(max(math.floor(rank - reach), 0), last)]


def _best(score: Tensor, n: int) -> Tensor:
    """`select` by one `torch.topk`, which finds the n-th highest score but promises nothing about ties."""
    if n in (0, score.numel()):
        return torch.arange(n, device=score.device)
    worst = _nth(score, n)
    chosen = score >= worst
    surplus = int(chosen.sum()) - n
    if surplus < 0:  # a NaN was counted in, and compares with nothing
        return _best(score.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), n)
    if surplus:
        chosen[where(score == worst)[-surplus:]] = False
    return where(chosen)


def _nth(score: Tensor, n: int) -> Tensor:
    """The n-th highest score, from the nearer end."""
    if 2 * n <= score.numel():
        return torch.topk(score, n, sorted=False).values.min()
    return torch.topk(score, score.numel() - n + 1, largest=False, sorted=False).values.max()
