"""Distributions: one density -> a density per layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import prod

from regrow.core.errors import RegrowError, nearest
from regrow.core.topology import Shape

Shapes = Mapping[str, Shape]
Distribution = Callable[[Shapes, float], dict[str, float]]


@dataclass(frozen=True)
class Uniform:
    """The same density everywhere.

    Args:
        dense_first: the first layer stays dense and is not paid for by the others (RigL: Evci et al. 2020, sec. 3).
        classifier: floor of the last layer's density, paid for by the others (GraNet: Liu et al. 2021 floor it at .2
            when the density is at most .2). Under `Overrides` first and last are those of the layers not named.
    """

    dense_first: bool = False
    classifier: float = 0.0

    def __call__(self, shapes: Shapes, density: float) -> dict[str, float]:
        names = list(shapes)
        dense = {names[0]: 1.0} if self.dense_first else {}
        rest = {name: shapes[name] for name in names if name not in dense}
        floor = {names[-1]: self.classifier} if names[-1] in rest and density < self.classifier else {}
        return {**dense, **_paid(rest, density, floor, lambda others, d: dict.fromkeys(others, d))}


@dataclass(frozen=True)
class ERK:
    """Erdos-Renyi-Kernel: density_l = epsilon (sum of shape_l / product of shape_l)^power, the budget kept exactly.

    Layers whose share would pass 1 become dense (all that attain the largest raw share at once) and epsilon is solved
    again for the others, until none does (Evci et al. 2020, arXiv:1911.11134, app. A; Mocanu et al. 2018 for power 1
    on two-dimensional weights).

    Args:
        kernel: count kernel sizes (ERK); without them only channels (ER).

    >>> shares = ERK()({"wide": (300, 784), "thin": (10, 300)}, 0.1)
    >>> {name: round(share, 3) for name, share in shares.items()}
    {'wide': 0.089, 'thin': 1.0}
    """

    power: float = 1.0
    kernel: bool = True

    def __call__(self, shapes: Shapes, density: float) -> dict[str, float]:
        size = {name: prod(shape) for name, shape in shapes.items()}
        raw = {name: self._raw(shape) for name, shape in shapes.items()}
        dense: set[str] = set()
        while len(dense) < len(size):
            free = [name for name in size if name not in dense]
            budget = density * sum(size.values()) - sum(size[name] for name in dense)
            epsilon = budget / sum(raw[name] * size[name] for name in free)
            top = max(raw[name] for name in free)
            if epsilon * top <= 1.0:
                return {name: 1.0 if name in dense else epsilon * raw[name] for name in size}
            dense |= {name for name in free if raw[name] == top}
        return dict.fromkeys(size, 1.0)

    def _raw(self, shape: Shape) -> float:
        shape = shape if self.kernel else shape[:2]
        return float((sum(shape) / prod(shape)) ** self.power)


@dataclass(frozen=True)
class Overrides:
    """Densities by name or pattern (`fnmatch`), paid for by the other layers, which share the rest as `base` says.

    Raises:
        RegrowError: a pattern matches no layer, a density is outside (0, 1], or the named ones pass the budget.
    """

    base: Distribution
    densities: Mapping[str, float]

    def __call__(self, shapes: Shapes, density: float) -> dict[str, float]:
        named: dict[str, float] = {}
        for pattern, value in self.densities.items():
            hits = [name for name in shapes if name == pattern or fnmatchcase(name, pattern)]
            if not hits:
                raise RegrowError(f"overrides: {pattern!r} matches no sparse layer{nearest(pattern, shapes)}")
            if not 0.0 < value <= 1.0:
                raise RegrowError(
                    f"overrides: density {value:g} of {pattern!r} is outside (0, 1]; 1 keeps the layer dense, and "
                    "exclude=... leaves it out of the budget"
                )
            named.update(dict.fromkeys(hits, value))
        return _paid(shapes, density, named, self.base)


DISTRIBUTIONS: dict[str, Callable[..., Distribution]] = {
    "uniform": Uniform,
    "er": partial(ERK, kernel=False),
    "erk": ERK,
}


def _paid(shapes: Shapes, density: float, named: Mapping[str, float], base: Distribution) -> dict[str, float]:
    """`named` densities as they are, the others from `base` at the density that keeps the whole budget."""
    others = {name: shape for name, shape in shapes.items() if name not in named}
    budget = density * sum(map(prod, shapes.values())) - sum(named[name] * prod(shapes[name]) for name in named)
    room = sum(map(prod, others.values()))
    if not others:
        return dict(named)
    if not 0.0 < budget <= room * (1 + 1e-9):
        raise RegrowError(
            f"density {density:g} cannot be kept: the densities given by name ({dict(named)}) leave {budget:.0f} "
            f"weights for the other {len(others)} layers of {room}; change the overall density or the named ones"
        )
    shared = base(others, min(1.0, budget / room))
    return {name: named[name] if name in named else shared[name] for name in shapes}


def counts(shapes: Shapes, densities: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers of weights whose sum is the rounded sum of the shares: largest remainders first, ties in order.

    Raises:
        RegrowError: a layer would be left with no weight, or a density is outside (0, 1].
    """
    exact = {name: densities[name] * prod(shape) for name, shape in shapes.items()}
    whole = {name: min(int(share + 1e-9), prod(shapes[name])) for name, share in exact.items()}
    missing = round(sum(exact.values())) - sum(whole.values())
    for name in sorted(exact, key=lambda n: whole[n] - exact[n])[: max(missing, 0)]:
        whole[name] += 1
    for name, count in whole.items():
        if not 0 < count <= prod(shapes[name]):
            raise RegrowError(
                f"density {densities[name]:.3g} leaves layer {name!r} {shapes[name]} with {count} of its "
                f"{prod(shapes[name])} weights; raise the density, use topology='erk', exclude it or override it"
            )
    return whole
