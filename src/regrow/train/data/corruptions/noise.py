"""Noise of the sensor. Images are [N, C, H, W] in [0, 1] before; the caller clips after."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.train.data.corruptions.draws import Draws


def gaussian_noise(x: Tensor, std: float, draws: Draws) -> Tensor:
    """x + N(0, std^2)."""
    return x + std * draws.normal(*x.shape[1:])


def shot_noise(x: Tensor, photons: float, draws: Draws) -> Tensor:
    """Poisson(photons x) / photons."""
    return draws.poisson(photons * x) / photons


def impulse_noise(x: Tensor, amount: float, draws: Draws) -> Tensor:
    """Salt and pepper: each value, with chance `amount`, becomes 0 or 1."""
    hit = draws.uniform(0, 1, *x.shape[1:]) < amount
    salt = (draws.uniform(0, 1, *x.shape[1:]) < 0.5).to(x)
    return torch.where(hit, salt, x)


def speckle_noise(x: Tensor, std: float, draws: Draws) -> Tensor:
    """x + x N(0, std^2)."""
    return x + x * std * draws.normal(*x.shape[1:])
