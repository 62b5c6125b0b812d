"""What every metric of predictions is given: probabilities and labels, refused by name when they are not."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.core.errors import RegrowError

TOLERANCE = 1e-3  # of a row's sum: half-precision softmax stays within it
TINY = torch.finfo(torch.float32).tiny  # a float32 probability of 0 has underflowed; its logarithm is counted as -87.3


def checked(probabilities: Tensor) -> Tensor:
    """Probabilities [..., N, C] in float64 on the CPU, where a metric is reproducible and costs little.

    Raises:
        RegrowError: no samples or classes, NaN, outside [0, 1], or rows that do not sum to 1.
    """
    if probabilities.dim() < 2 or 0 in probabilities.shape:
        raise RegrowError(f"probabilities have the shape {tuple(probabilities.shape)}; give [..., samples, classes]")
    if not probabilities.is_floating_point():
        raise RegrowError(f"probabilities are {probabilities.dtype}; give floating-point numbers that sum to 1")
    p = probabilities.detach().cpu().double()
    if bool(p.isnan().any()):
        raise RegrowError(f"{int(p.isnan().any(-1).sum())} rows of the probabilities hold NaN: the model has diverged")
    if float(p.min()) < 0 or float((p.sum(-1) - 1).abs().max()) > TOLERANCE:
        raise RegrowError(
            f"rows of the probabilities sum to between {float(p.sum(-1).min()):.4g} and {float(p.sum(-1).max()):.4g} "
            f"(least entry {float(p.min()):.4g}); if these are logits, pass `.softmax(-1)`"
        )
    return p


def labelled(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities [N, C] in float64 and labels [N], checked against each other.

    Raises:
        RegrowError: what `checked` refuses, other shapes, labels outside 0..C-1.
    """
    p = checked(probabilities)
    if p.dim() != 2 or labels.shape != p.shape[:1]:
        members = "; take the mean over members first" if p.dim() == 3 else ""
        raise RegrowError(
            f"probabilities {tuple(p.shape)} and labels {tuple(labels.shape)} do not fit: "
            f"give [samples, classes] and [samples]{members}"
        )
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= p.shape[1]:
        raise RegrowError(f"labels must be whole numbers in 0..{p.shape[1] - 1}, one per row of the probabilities")
    return p, labels.detach().cpu().long()


def ensemble(members: Tensor, weights: Tensor | None = None) -> Tensor:
    """p(y|x) = sum_m w_m p_m(y|x): the mean prediction [N, C] of members [M, N, C], in float64.

    Args:
        weights: [M], of any positive scale; uniform when None.
    """
    p = stacked(members)
    if weights is None:
        return p.mean(0)
    if weights.shape != p.shape[:1] or not bool((weights >= 0).all()) or float(weights.sum()) <= 0:
        raise RegrowError(f"weights {weights.tolist()} do not fit {len(p)} members: give one of at least 0 for each")
    w = weights.to(p)
    return torch.einsum("m,mnc->nc", w / w.sum(), p)


def stacked(members: Tensor) -> Tensor:
    """Probabilities [M, N, C] in float64.

    Raises:
        RegrowError: what `checked` refuses, or no axis of members.
    """
    p = checked(members)
    if p.dim() != 3:
        raise RegrowError(f"members have the shape {tuple(p.shape)}; give [members, samples, classes]")
    return p


def confidence(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(max_c p, whether argmax_c p is the label), both [N] in float64."""
    p, y = labelled(probabilities, labels)
    highest = p.max(-1)
    return highest.values, (highest.indices == y).double()


def log(probabilities: Tensor) -> Tensor:
    """Natural logarithm, of 0 as if it were the least normal float32."""
    return probabilities.clamp_min(TINY).log()
