"""The loss around a minimum, along random directions of the size of its filters (Li et al. 2018, arXiv:1712.09913)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from regrow.core.rng import generator
from regrow.metrics.surface import Surface


def direction(surface: Surface, number: int = 0, seed: int = 0) -> Tensor:
    """A random d [n] over the weights that exist, filter by filter as long as the weights:  d_i <- d_i / |d_i| |w_i|.

    A filter is what makes one output. Biases and norms stay where they are.
    """
    draw = generator("landscape", seed, number)
    random = surface.weights(torch.randn(surface.theta.shape, generator=draw).to(surface.theta))
    return surface.join({name: _as_long(random[name], w) for name, w in surface.parameters.items()})


@torch.no_grad()
def line(surface: Surface, towards: Tensor, alphas: Sequence[float]) -> Tensor:
    """L(theta + a d) for every a, [K]."""
    return torch.stack([surface.loss(surface.theta + a * towards) for a in alphas])


@torch.no_grad()
def plane(surface: Surface, d: Tensor, e: Tensor, alphas: Sequence[float]) -> Tensor:
    """L(theta + a d + b e), [K, K]: a down the rows, b along them."""
    return torch.stack([torch.stack([surface.loss(surface.theta + a * d + b * e) for b in alphas]) for a in alphas])


def _as_long(random: Tensor, weight: Tensor) -> Tensor:
    """Of every row of `random`, its direction in the length of the weight's row; zero for vectors."""
    if weight.dim() < 2:
        return torch.zeros_like(weight)
    rows, wanted = random.flatten(1), weight.flatten(1).norm(dim=1, keepdim=True)
    long: Tensor = rows * (wanted / rows.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return long.view_as(weight)
