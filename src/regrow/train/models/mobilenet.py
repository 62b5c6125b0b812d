"""MobileNets: a depthwise 3x3 convolution filters, 1x1 convolutions mix."""

from __future__ import annotations

from torch import Tensor, nn

from regrow.train.models import check
from regrow.train.models.init import kaiming

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: type[nn.Module] = nn.ReLU
) -> list[nn.Module]:
    """Convolution, BatchNorm, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), activation()]


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, depthwise 3x3, 1x1 back without activation; a shortcut where it fits."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        wider = convolution(inputs, hidden, activation=nn.ReLU6) if expansion > 1 else []
        filtered = convolution(hidden, hidden, 3, stride, hidden, nn.ReLU6)
        self.conv = nn.Sequential(*wider, *filtered, *convolution(hidden, outputs)[:2])
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.residual else out


class MobileNet(nn.Module):
    """`features`, the mean over the image, dropout, one linear layer."""

    def __init__(self, features: list[nn.Module], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes))
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.avgpool(self.features(x)))
        return out


def mobilenet_v1(shape: tuple[int, ...], classes: int) -> MobileNet:
    """Thirteen depthwise-separable convolutions (Howard et al. 2017, arXiv 1704.04861).

    Up to 64 pixels the stem keeps the size of the image.
    """
    channels, height, _ = check.image("mobilenet_v1", shape, least=16)
    layers = convolution(channels, 32, 3, stride=1 + (height > 64))
    inputs = 32
    for outputs, stride in V1:
        layers += [*convolution(inputs, inputs, 3, stride, inputs), *convolution(inputs, outputs)]
        inputs = outputs
    return MobileNet(layers, inputs, classes, dropout=0.0)


def mobilenet_v2(shape: tuple[int, ...], classes: int, dropout: float = 0.2) -> MobileNet:
    """Seventeen inverted residuals (Sandler et al. 2018, arXiv 1801.04381).

    Up to 64 pixels the stem and the second group keep the size of the image.
    """
    channels, height, _ = check.image("mobilenet_v2", shape, least=8)
    large = height > 64
    layers = convolution(channels, 32, 3, stride=1 + large, activation=nn.ReLU6)
    inputs = 32
    for group, (expansion, outputs, depth, stride) in enumerate(V2):
        for i in range(depth):
            first = stride if i == 0 and (large or group != 1) else 1
            layers.append(InvertedResidual(inputs, outputs, expansion, first))
            inputs = outputs
    layers += convolution(inputs, 1280, activation=nn.ReLU6)
    return MobileNet(layers, 1280, classes, dropout)
