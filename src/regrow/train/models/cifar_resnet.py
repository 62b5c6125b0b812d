"""The residual networks that were made for 32x32 images: three stages of basic blocks, 16, 32 and 64 channels wide."""

from __future__ import annotations

from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.train.models import check
from regrow.train.models.init import kaiming
from regrow.train.models.resnet import BasicBlock, stage


class CifarResNet(nn.Module):
    """(depth - 2) / 6 basic blocks in each of three stages (He et al. 2015, arXiv 1512.03385, section 4.2).

    Where the shape changes the shortcut is a 1x1 convolution (their option B); parameter names are torchvision's.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, width: int) -> None:
        super().__init__()
        channels, _, _ = check.image("cifar_resnet", shape, least=8)
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise RegrowError(f"cifar_resnet: depth = {depth} must be 6 n + 2, such as 20, 32, 56, 104 or 110")
        widths = [16 * width << i for i in range(3)]
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = stage(BasicBlock, widths[0], widths[0], blocks, stride=1)
        self.layer2 = stage(BasicBlock, widths[0], widths[1], blocks, stride=2)
        self.layer3 = stage(BasicBlock, widths[1], widths[2], blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def cifar_resnet(shape: tuple[int, ...], classes: int, depth: int = 20, width: int = 1) -> CifarResNet:
    """ResNet-20, 32, 56, 104, 110, ... with `width` times the channels; GraSP's ResNet-32 is `depth=32, width=2`.

    Depth 104 (n = 17) is the one reading of the "ResNet-104" of ToST's abstract: no network of four stages has that
    depth, and the published code holds none of that name.
    """
    return CifarResNet(shape, classes, depth, width)
