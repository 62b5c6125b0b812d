"""Telling inputs of another distribution apart: scores of uncertainty, and how well they separate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.metrics.probabilities import ensemble, log, stacked


def max_probability(members: Tensor, weights: Tensor | None = None) -> Tensor:
    """1 - max_c p(c|x), [N], of the mean p of members [M, N, C] (Hendrycks and Gimpel 2017, arXiv:1610.02136)."""
    return 1 - ensemble(members, weights).max(-1).values


def entropy(members: Tensor, weights: Tensor | None = None) -> Tensor:
    """H[p] = -sum_c p(c|x) log p(c|x)  of the mean p, [N] in nats: total uncertainty."""
    return _entropy(ensemble(members, weights))


def mutual_information(members: Tensor, weights: Tensor | None = None) -> Tensor:
    """H[sum_m w_m p_m] - sum_m w_m H[p_m],  [N] in nats, w_m = 1/M: what the members disagree on (Depeweg et al. 2018,
    arXiv:1710.07283); 0 for one member."""
    shares = torch.ones(len(members)) if weights is None else weights.cpu()
    expected = shares.double() / shares.sum() @ _entropy(stacked(members))
    return (entropy(members, weights) - expected).clamp_min(0)


SCORES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "max_probability": max_probability,
    "entropy": entropy,
    "mutual_information": mutual_information,
}


@dataclass(frozen=True)
class Detection:
    """How well a score finds the other distribution, which is the positive class of all three.

    Args:
        auroc: chance that an outside sample scores higher than an inside one; .5 is guessing.
        aupr: average precision; guessing has the share of outside samples.
        fpr95: share of inside samples flagged at the threshold that flags at least 95 % of the outside ones.
    """

    auroc: float
    aupr: float
    fpr95: float


def detection(inside: Tensor, outside: Tensor) -> Detection:
    """From scores [N] and [N'], higher = further outside, by scikit-learn.

    Raises:
        RegrowError: a side is empty, or a score is not a number.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve  # type: ignore[import-untyped]

    for side, scores in (("inside", inside), ("outside", outside)):
        if scores.dim() != 1 or not len(scores) or not bool(scores.isfinite().all()):
            raise RegrowError(f"the scores {side} have the shape {tuple(scores.shape)}; give finite numbers [samples]")
    score = torch.cat([inside, outside]).cpu().numpy()
    truth = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))]).numpy()
    false, true, _ = roc_curve(truth, score, drop_intermediate=False)
    return Detection(
        auroc=float(roc_auc_score(truth, score)),
        aupr=float(average_precision_score(truth, score)),
        fpr95=float(false[(true >= 0.95).argmax()]),
    )


def _entropy(p: Tensor) -> Tensor:
    return -(p * log(p)).sum(-1)
