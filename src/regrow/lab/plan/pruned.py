"""Which layers keep their weights when one threshold over all of them prunes: a family, and where runs lie in it.

The magnitudes of a layer are taken to spread exponentially around a mean that goes with fan_in^-a, so that a threshold
of t leaves it the share exp(-t fan_in^a) of the weights it starts with. At a = 0 all layers lose alike; weights are
initialised with a = 1/2 (He et al. 2015). What training makes of a is measured, run by run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

from regrow.core.distributions import counts
from regrow.core.topology import Shape

Densities = Mapping[str, float]

INITIAL = 0.5
"""The exponent of weights as they are initialised."""


@dataclass(frozen=True)
class Pruned:
    """A run that has been pruned by one threshold, the inference FLOPs it ended with as a share of the dense ones, and
    the exponent that gives as many. `updates` is 0 where it is not told; `seeds` where others report the share."""

    network: str
    data: str
    method: str
    density: float
    updates: int
    seeds: int
    inference_ratio: float
    exponent: float
    source: str


@cache
def measured() -> tuple[Pruned, ...]:
    """All there are. Written by benchmarks/studies/pruned.py."""
    content = json.loads(Path(__file__).with_name("pruned.json").read_text(encoding="utf-8"))
    return tuple(Pruned(**row) for row in content["runs"])


def alike(data: str) -> tuple[Pruned, ...]:
    """The measured runs on these data, else all."""
    return tuple(run for run in measured() if run.data == data) or measured()


def left(shapes: Mapping[str, Shape], first: Densities, density: float, exponent: float) -> dict[str, float]:
    """Densities once pruning has left this share of all weights, in whole numbers, no layer without any.

    Args:
        first: the densities it started from.
    """
    numel = {name: prod(shape) for name, shape in shapes.items()}
    rates = {name: float(prod(shape[1:])) ** exponent for name, shape in shapes.items()}
    budget, threshold = density * sum(numel.values()), 0.0
    kept = {name: first[name] * numel[name] for name in shapes}
    held = dict(kept)
    while sum(held.values()) > budget * (1 + 1e-9):  # Newton: their sum is convex in the threshold, so from the left
        slope = sum(rates[name] * number for name, number in held.items())
        threshold += (sum(held.values()) - budget) / slope
        held = {name: number * math.exp(-threshold * rates[name]) for name, number in kept.items()}
    whole = counts(shapes, {name: max(number, 1.0) / numel[name] for name, number in held.items()})
    return {name: whole[name] / numel[name] for name in shapes}
