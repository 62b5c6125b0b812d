"""Small-dense: the dense network with as many parameters as a sparse one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from regrow.core.errors import RegrowError
from regrow.train.models.mlp import mlp


def small_mlp(
    shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (1024, 1024), density: float = 0.1
) -> nn.Sequential:
    """The widest perceptron with at most density times the weights of `hidden`, its widths in their proportions."""
    if not 0.0 < density <= 1.0:
        raise RegrowError(f"density {density:g} is outside (0, 1]; it is the share of weights the small network has")
    budget = round(density * _weights(shape, classes, hidden))
    low, high = 0, max(hidden)  # widths of the widest layer: too small or just right, and enough
    while low < high:
        middle = (low + high + 1) // 2
        fits = _weights(shape, classes, _scaled(hidden, middle)) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    if not low:
        raise RegrowError(f"no perceptron is as small as density {density:g} of {list(hidden)}; raise the density")
    return mlp(shape, classes, _scaled(hidden, low))


def _scaled(hidden: Sequence[int], widest: int) -> list[int]:
    return [max(1, width * widest // max(hidden)) for width in hidden]


def _weights(shape: tuple[int, ...], classes: int, hidden: Sequence[int]) -> int:
    widths = [prod(shape), *hidden, classes]
    return sum(inputs * outputs for inputs, outputs in pairwise(widths))
