"""Multilayer perceptrons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from regrow.core.errors import RegrowError


def mlp(
    shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (1024, 1024), dropout: float = 0.0
) -> nn.Sequential:
    """fc1, relu1, fc2, ...: one linear layer per hidden width and one to the classes; `dropout` follows each ReLU."""
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise RegrowError(f"mlp: hidden = {hidden!r} must be positive whole numbers, such as [300, 100]")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    widths = [prod(shape), *hidden, classes]
    for i, (inputs, outputs) in enumerate(pairwise(widths), 1):
        layers[f"fc{i}"] = nn.Linear(inputs, outputs)
        if i <= len(hidden):
            layers[f"relu{i}"] = nn.ReLU()
            if dropout:
                layers[f"drop{i}"] = nn.Dropout(dropout)
    return nn.Sequential(layers)


def lenet300(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998)."""
    return mlp(shape, classes, hidden=(300, 100))
