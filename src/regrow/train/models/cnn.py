"""A small convolutional network, for CIFAR-10 on a laptop."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from regrow.train.models import check
from regrow.train.models.init import kaiming


def cnn(shape: tuple[int, ...], classes: int, widths: Sequence[int] = (64, 64, 128, 128, 256, 256)) -> nn.Module:
    """3x3 convolutions with batch normalisation, halved by a max-pool where a third and two thirds of them are done;
    the mean over what is left of the image, and one linear layer.

    Args:
        widths: output channels of each convolution.
    """
    inputs, _, _ = check.image("cnn", shape, least=4)
    pooled = {len(widths) // 3, 2 * len(widths) // 3}
    layers: list[nn.Module] = []
    for done, outputs in enumerate(widths, 1):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        if done in pooled:
            layers.append(nn.MaxPool2d(2))
        inputs = outputs
    return kaiming(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)))
