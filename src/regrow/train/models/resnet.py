"""ResNet-18, 34 and 50, with torchvision's parameter names, so that its pretrained weights load."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from regrow.core.errors import RegrowError, nearest
from regrow.train.models import check
from regrow.train.models.init import kaiming

STEMS = ("auto", "cifar", "imagenet")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2015, arXiv 1512.03385)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(x)) + identity)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided, as torchvision's), 1x1 to four times the width, around a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.relu(self.bn3(self.conv3(x)) + identity)
        return out


Block = type[BasicBlock] | type[Bottleneck]


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution where the shape changes, else nothing."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def stage(block: Block, inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    """`depth` blocks, the first of which strides."""
    rest = (block(width * block.expansion, width, 1) for _ in range(depth - 1))
    return nn.Sequential(block(inputs, width, stride), *rest)


class ResNet(nn.Module):
    """Four stages of `block`.

    Stem "cifar": 3x3; "imagenet": 7x7 with stride 2 and a max-pool; "auto": the latter above 64 pixels.
    """

    def __init__(
        self,
        block: Block,
        depths: Sequence[int],
        shape: tuple[int, ...],
        classes: int,
        stem: str,
        width: int,
    ) -> None:
        super().__init__()
        channels, height, _ = check.image("resnet", shape, least=8)
        if stem not in STEMS:
            raise RegrowError(f"resnet: unknown stem {stem!r}{nearest(stem, STEMS)} Valid: {', '.join(STEMS)}")
        large = stem == "imagenet" or (stem == "auto" and height > 64)
        self.conv1 = nn.Conv2d(channels, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.layer1 = stage(block, width, width, depths[0], stride=1)
        inputs = width * block.expansion
        self.layer2 = stage(block, inputs, 2 * width, depths[1], stride=2)
        self.layer3 = stage(block, 2 * inputs, 4 * width, depths[2], stride=2)
        self.layer4 = stage(block, 4 * inputs, 8 * width, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * inputs, classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def resnet18(shape: tuple[int, ...], classes: int, stem: str = "auto", width: int = 64) -> ResNet:
    """Two basic blocks in each stage."""
    return ResNet(BasicBlock, (2, 2, 2, 2), shape, classes, stem, width)


def resnet34(shape: tuple[int, ...], classes: int, stem: str = "auto", width: int = 64) -> ResNet:
    """3, 4, 6 and 3 basic blocks."""
    return ResNet(BasicBlock, (3, 4, 6, 3), shape, classes, stem, width)


def resnet50(shape: tuple[int, ...], classes: int, stem: str = "auto", width: int = 64) -> ResNet:
    """3, 4, 6 and 3 bottlenecks."""
    return ResNet(Bottleneck, (3, 4, 6, 3), shape, classes, stem, width)
