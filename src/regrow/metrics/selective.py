"""Selective prediction: answer the surest inputs, pass on the rest (El-Yaniv and Wiener 2010)."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.metrics.probabilities import confidence


def risks(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The risk-coverage curve [N]: entry n-1 is the error rate on the n samples of highest max_c p, coverage n/N.

    Samples of equal confidence count with their mean error, so that their order does not matter.
    """
    sure, right = confidence(probabilities, labels)
    _, group, size = torch.unique(sure, return_inverse=True, return_counts=True)
    wrong = torch.zeros(len(size), dtype=torch.float64).index_add_(0, group, 1 - right) / size
    errors: Tensor = wrong[group][sure.argsort(descending=True)]
    return errors.cumsum(0) / torch.arange(1, len(errors) + 1)


def aurc(probabilities: Tensor, labels: Tensor) -> float:
    """Area under the risk-coverage curve, the mean risk over coverages 1/N..1, in [0, 1] (Geifman et al. 2019,
    arXiv:1805.08206)."""
    return float(risks(probabilities, labels).mean())


def accuracy_at(probabilities: Tensor, labels: Tensor, coverage: float) -> float:
    """Accuracy on the surest `coverage`, in (0, 1], of the samples."""
    if not 0 < coverage <= 1:
        raise RegrowError(f"coverage = {coverage}: give the share of samples to answer, in (0, 1]")
    return 1 - float(risks(probabilities, labels)[ceil(coverage * len(labels)) - 1])
