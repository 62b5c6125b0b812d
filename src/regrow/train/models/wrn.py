"""Wide residual networks."""

from __future__ import annotations

from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.train.models import check
from regrow.train.models.init import kaiming


class WideBlock(nn.Module):
    """BN-ReLU-conv twice around a shortcut; where the width changes the shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None
        self.dropout = nn.Dropout(dropout)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(active)
        out = self.dropout(self.relu(self.bn2(self.conv1(active))))
        total: Tensor = self.conv2(out) + identity
        return total


class WideResNet(nn.Module):
    """Three groups of (depth - 4) / 6 wide blocks (Zagoruyko, Komodakis 2016, arXiv 1605.07146)."""

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, width: int, dropout: float) -> None:
        super().__init__()
        channels, _, _ = check.image("wrn", shape, least=8)
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise RegrowError(f"wrn: depth = {depth} must be 6 n + 4, such as 10, 16, 22, 28 or 40")
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        inputs = 16
        groups: list[nn.Module] = []
        for i in range(3):
            outputs = (16 << i) * width
            for j in range(blocks):
                groups.append(WideBlock(inputs, outputs, stride=2 if i and not j else 1, dropout=dropout))
                inputs = outputs
        self.blocks = nn.Sequential(*groups)
        self.bn = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.blocks(self.conv1(x))))
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def wrn(shape: tuple[int, ...], classes: int, depth: int = 16, width: int = 4, dropout: float = 0.0) -> WideResNet:
    """WRN-depth-width, such as WRN-16-4."""
    return WideResNet(shape, classes, depth, width, dropout)


def wrn28_10(shape: tuple[int, ...], classes: int, dropout: float = 0.0) -> WideResNet:
    """WRN-28-10."""
    return WideResNet(shape, classes, depth=28, width=10, dropout=dropout)
