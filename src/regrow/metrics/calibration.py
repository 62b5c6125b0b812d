"""Are the probabilities right? NLL, Brier score, calibration errors, the reliability table, temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.metrics.probabilities import confidence, labelled, log

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # the temperatures that are tried


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Share of samples whose most probable class is the label, in [0, 1]."""
    return float(confidence(probabilities, labels)[1].mean())


def nll(probabilities: Tensor, labels: Tensor) -> float:
    """Negative log-likelihood in nats:  -1/N sum_n log p(y_n|x_n)  of probabilities [N, C] and labels [N].

    Of an ensemble, p is the mean probability of its members (`probabilities.ensemble`), never the mean of their logs.
    """
    p, y = labelled(probabilities, labels)
    return float(-log(p.gather(1, y[:, None])).mean())


def brier(probabilities: Tensor, labels: Tensor) -> float:
    """Brier score  1/N sum_n sum_c (p(c|x_n) - [c = y_n])^2,  in [0, 2] (Brier 1950)."""
    p, y = labelled(probabilities, labels)
    right = p.gather(1, y[:, None]).squeeze(1)
    return float((p.square().sum(1) - 2 * right + 1).mean())


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: the samples whose confidence is in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float  # mean; 0 where there is no sample
    accuracy: float


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> list[Bin]:
    """The data of a reliability diagram: `bins` equal widths (b/B, (b+1)/B] of the confidence max_c p."""
    conf, right = confidence(probabilities, labels)
    at = (conf * _positive(bins)).ceil().long().sub(1).clamp(0, bins - 1)
    count, of_conf, of_right = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, at, values)
        for values in (torch.ones_like(conf), conf, right)
    )
    some = count.clamp_min(1)
    columns = zip(count.tolist(), (of_conf / some).tolist(), (of_right / some).tolist(), strict=True)
    return [Bin(b / bins, (b + 1) / bins, int(n), c, a) for b, (n, c, a) in enumerate(columns)]


def ece(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error  sum_b |B_b|/N |acc(B_b) - conf(B_b)|,  in [0, 1] (Guo et al. 2017, arXiv:1706.04599).

    `bins` of equal width, 15 in the papers. torchmetrics counts confidences of exactly 1 in a bin of their own; here
    they belong to the last one, as published.

    >>> p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> round(ece(p, torch.tensor([0, 0, 1, 0])), 3)
    0.35
    """
    rows = reliability(probabilities, labels, bins)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / len(labels)


def adaptive_ece(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """ECE over `bins` of equal mass: samples sorted by confidence, cut into equal shares (Nixon et al. 2019,
    arXiv:1904.01685)."""
    conf, right = confidence(probabilities, labels)
    order = conf.argsort(stable=True)
    gaps = (right - conf)[order].tensor_split(min(_positive(bins), len(conf)))
    return sum(abs(float(gap.sum())) for gap in gaps) / len(conf)


def scaled(probabilities: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T) [..., C] in float64: for one model's softmax the same as dividing its logits by T."""
    return (log(probabilities.double()) / temperature).softmax(-1)


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """The T in [0.05, 20] with the least NLL of `scaled` probabilities on a validation set (Guo et al. 2017).

    The NLL is convex in 1/T with derivative  1/N sum_n (E_p[log p] - log p(y_n|x_n)),  which is bisected. Fit it on
    what is predicted: of an ensemble, on its mean probability (Rahaman and Thiery 2021, arXiv:2007.08792).
    """
    p, y = labelled(probabilities, labels)
    logs = log(p)
    right = float(logs.gather(1, y[:, None]).mean())
    low, high = 1 / HOTTEST, 1 / COLDEST  # of 1/T
    for _ in range(60):
        middle = sqrt(low * high)
        slope = float(((logs * middle).softmax(-1) * logs).sum(-1).mean()) - right
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / sqrt(low * high)


def _positive(bins: int) -> int:
    if bins < 1:
        raise RegrowError(f"bins = {bins}: give at least 1; the papers take {BINS}")
    return bins
