"""The forecast of R_s, the share of weights ever active (Liu et al. 2021, arXiv:2102.02887)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from regrow.core.schedules import Every, Schedule
from regrow.core.topology import Shape


@dataclass(frozen=True)
class Rates:
    """R_s at one moment of a run, each in (0, 1].

    Args:
        step: optimizer steps done.
        layers: per site.
        overall: over all sites, each by its number of weights.
    """

    step: int
    layers: Mapping[str, float]
    overall: float


def forecast(
    shapes: Mapping[str, Shape], densities: Mapping[str, float], fraction: Schedule, every: Every, total_steps: int
) -> list[Rates]:
    """R_s at the start and after each update of a run that grows at random, exactly as many as it drops.

    Args:
        shapes: of each site's weight.
        densities: of each site, in (0, 1], constant during the run.
        fraction: p, the method's drop fraction.
        every: the method's updates.
        total_steps: optimizer steps of the run.
    """
    steps = list(_updates(every, total_steps))
    rates = explored(densities, [fraction(every.progress(step, total_steps)) for step in steps])
    overall = total(shapes, rates).tolist()
    layers = [dict(zip(densities, row, strict=True)) for row in rates.tolist()]
    return [Rates(*row) for row in zip([0, *steps], layers, overall, strict=True)]


def explored(densities: Mapping[str, float], fractions: Sequence[float], reach: float = math.inf) -> Tensor:
    """R_s of each layer at the start and after each update, [updates + 1, layers], double.

    At random, in a layer of density D:  R_0 = D,  R_{k+1} = R_k + (1 - R_k) q_k,  q_k = p_k D / (1 - D + p_k D): all
    that was never active is among the 1 - D + p_k D where p_k D grow. So 1 - R_k = (1 - D) exp(-sum ln(1 + p D / (1 -
    D))). Growth by gradient takes the same places again and again: there the exponent is 1 / (1 + x / reach) of that,
    x = sum of p so far, a law that fits what was measured.

    Args:
        densities: D of each layer, constant during the run; a dense one has nothing to explore.
        fractions: p of each update.
        reach: how often the weights are replaced until half as much is found as at random.
    """
    density = torch.tensor(list(densities.values()), dtype=torch.float64)
    p = torch.tensor([0.0, *fractions], dtype=torch.float64)[:, None]
    exponent = torch.log1p(p * (density / (1.0 - density)).nan_to_num(posinf=0.0)).cumsum(0)
    return density - (1.0 - density) * torch.expm1(-exponent / (1.0 + p.cumsum(0) / reach))


def total(shapes: Mapping[str, Shape], rates: Tensor) -> Tensor:
    """Of all layers together, each by its number of weights: [..., layers] -> [...]."""
    size = torch.tensor([prod(shape) for shape in shapes.values()], dtype=torch.float64)
    return (rates * size).sum(-1) / size.sum()


def _updates(every: Every, total_steps: int) -> Iterator[int]:
    return (step for step in range(every.interval, total_steps + 1, every.interval) if every.due(step, total_steps))
