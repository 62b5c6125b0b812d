"""A DenseNet for small images (Huang et al. 2017, arXiv 1608.06993), written as torchvision's: what foreign code does
to a sparse model's layout. Three blocks of six layers, growth 24, bottlenecks, compression by a half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROWTH, DEPTH = 24, 6


class Layer(nn.Module):
    """Takes all that came before it, concatenated."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * GROWTH, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * GROWTH), nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, before: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu(self.norm1(torch.cat(before, 1))))
        y: Tensor = self.conv2(self.relu(self.norm2(x)))
        return y


class Block(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(inputs + i * GROWTH) for i in range(DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for layer in self.layers:
            found.append(layer(found))
        return torch.cat(found, 1)


def densenet(classes: int) -> nn.Sequential:
    channels = 2 * GROWTH
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False)]
    for last in (False, False, True):
        layers.append(Block(channels))
        channels += DEPTH * GROWTH
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        if not last:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
