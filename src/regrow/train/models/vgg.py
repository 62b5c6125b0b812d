"""VGG-16 with batch normalisation and the small heads of the sparse-training papers."""

from __future__ import annotations

from torch import Tensor, nn

from regrow.train.models import check
from regrow.train.models.init import kaiming

WIDTHS = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each halved by a max-pool, then `heads` linear layers.

    Simonyan, Zisserman 2014, arXiv 1409.1556; `pointwise` makes the third convolution of a stage 1x1 (their column C).
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, heads: int, pointwise: bool = False) -> None:
        super().__init__()
        inputs, height, width = check.image("vgg16", shape, least=32)
        features: list[nn.Module] = []
        for stage in WIDTHS:
            for i, outputs in enumerate(stage):
                kernel = 1 if pointwise and i == 2 else 3
                convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
                features += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        inputs *= (height // 32) * (width // 32)
        classifier: list[nn.Module] = []
        for _ in range(heads - 1):
            classifier += [nn.Linear(inputs, 512), nn.ReLU(), nn.BatchNorm1d(512)]
            inputs = 512
        self.classifier = nn.Sequential(nn.Flatten(), *classifier, nn.Linear(inputs, classes))
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x))
        return out


def vgg16(shape: tuple[int, ...], classes: int) -> VGG:
    """Two linear layers: the "VGG-16-like" of SNIP and ITOP."""
    return VGG(shape, classes, heads=2)


def vgg16_c(shape: tuple[int, ...], classes: int) -> VGG:
    """Column C: 1x1 convolutions close the last three stages; three linear layers."""
    return VGG(shape, classes, heads=3, pointwise=True)


def vgg16_d(shape: tuple[int, ...], classes: int) -> VGG:
    """Column D: 3x3 convolutions throughout; three linear layers."""
    return VGG(shape, classes, heads=3)
