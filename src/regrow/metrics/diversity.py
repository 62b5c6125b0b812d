"""How different the members of an ensemble are: in what they say, how surely, and in which weights they have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.metrics.probabilities import log, stacked


def disagreements(members: Tensor) -> Tensor:
    """P(y_i != y_j) over the samples for each pair of members [M, N, C]: [M, M] in [0, 1], zeros on the diagonal."""
    said = stacked(members).argmax(-1)
    return torch.stack([(said != one).double().mean(1) for one in said])


def disagreement(members: Tensor) -> float:
    """d_dis: the mean of `disagreements` over pairs i != j (Fort et al. 2019, arXiv:1912.02757, unnormalised).

    >>> members = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.8, 0.2], [0.6, 0.4]]])  # [M, N, C]
    >>> disagreement(members)
    0.5
    """
    return _over_pairs(disagreements(members))


def divergences(members: Tensor) -> Tensor:
    """KL(p_i || p_j) = 1/N sum_n sum_c p_i log(p_i / p_j)  in nats for each ordered pair: [M, M]."""
    p = stacked(members)
    logs = log(p)
    entropy = (p * logs).sum((1, 2))
    crossed = torch.einsum("inc,jnc->ij", p, logs)
    return (entropy[:, None] - crossed) / p.shape[1]


def divergence(members: Tensor) -> float:
    """d_KL: the mean of `divergences` over ordered pairs i != j (Liu et al. 2022, arXiv:2106.14568)."""
    return _over_pairs(divergences(members))


def overlaps(topologies: Sequence[Topology]) -> Tensor:
    """Intersection over union of the weights that exist, for each pair: [M, M] in [0, 1], ones on the diagonal."""
    return torch.tensor([[one.overlap(other) for other in topologies] for one in topologies], dtype=torch.float64)


def overlap(topologies: Sequence[Topology]) -> float:
    """The mean of `overlaps` over pairs i != j; topologies of equal density D drawn at random have D / (2 - D)."""
    return _over_pairs(overlaps(topologies))


def _over_pairs(matrix: Tensor) -> float:
    m = len(matrix)
    if m < 2:
        raise RegrowError(f"diversity is of pairs, and there is {m} member; give at least 2")
    return float((matrix.sum() - matrix.diagonal().sum()) / (m * (m - 1)))
