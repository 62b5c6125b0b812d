"""Initial weights of the convolutional models."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def kaiming(model: Model) -> Model:
    """Convolutions ~ N(0, 2 / fan_out), the rest as torch has it (He et al. 2015, arXiv 1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
