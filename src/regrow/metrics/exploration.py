"""The forecast of R_s, the share of weights ever active (Liu et al. 2021, arXiv:2102.02887)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

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

    Per layer of density D:  R_0 = D,  R_{k+1} = R_k + (1 - R_k) q_k,  q_k = p_k D / (1 - D + p_k D): all that was never
    active is among the 1 - D + p_k D where p_k D grow. Growth by gradient explores less; measure it instead.

    Args:
        shapes: of each site's weight.
        densities: of each site, in (0, 1], constant during the run.
        fraction: p, the method's drop fraction.
        every: the method's updates.
        total_steps: optimizer steps of the run.
    """
    layers = {name: densities[name] for name in shapes}
    course = [_rates(0, layers, shapes)]
    for step in _updates(every, total_steps):
        p = fraction(every.progress(step, total_steps))
        layers = {name: rate + (1.0 - rate) * _reach(p, densities[name]) for name, rate in layers.items()}
        course.append(_rates(step, layers, shapes))
    return course


def _reach(p: float, density: float) -> float:
    """q: the chance that an inactive weight grows in one update; nothing is inactive in a dense layer."""
    return p * density / (1.0 - density + p * density) if density < 1.0 else 0.0


def _updates(every: Every, total_steps: int) -> Iterator[int]:
    return (step for step in range(every.interval, total_steps + 1, every.interval) if every.due(step, total_steps))


def _rates(step: int, layers: Mapping[str, float], shapes: Mapping[str, Shape]) -> Rates:
    size = {name: prod(shape) for name, shape in shapes.items()}
    return Rates(step, layers, sum(layers[name] * size[name] for name in size) / sum(size.values()))
