"""The one selection. Every method chooses connections through here."""

from __future__ import annotations

import torch
from torch import Tensor


def select(score: Tensor, n: int, among: Tensor | None = None) -> Tensor:
    """Positions of the n highest scores, ascending; ties go to the lower position.

    No full sort: `torch.topk` finds the n-th score, one comparison finds the rest. A NaN ranks below everything.

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
    if n == score.numel():
        return torch.arange(n, device=score.device)
    if n == 0:
        return torch.empty(0, dtype=torch.int64, device=score.device)
    worst = torch.topk(score, n, sorted=False).values.min()
    if worst.isnan():
        return select(score.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), n)
    chosen = (score >= worst).nonzero().squeeze(1)
    surplus = chosen.numel() - n
    if surplus:
        chosen = _without_last_ties(chosen, score[chosen] == worst, surplus)
    return chosen


def _without_last_ties(chosen: Tensor, tied: Tensor, surplus: int) -> Tensor:
    keep = torch.ones_like(tied)
    keep[tied.nonzero().squeeze(1)[-surplus:]] = False
    return chosen[keep]
