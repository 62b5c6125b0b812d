"""LeNet-5."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from regrow.train.models import check
from regrow.train.models.init import kaiming


def lenet5(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) as Caffe and sparse-training papers have it: 20 and 50 filters, 500 hidden units."""
    channels, height, width = check.image("lenet5", shape, least=16)
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    return kaiming(
        nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 20, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(50 * rows * columns, 500),
                relu3=nn.ReLU(),
                fc2=nn.Linear(500, classes),
            )
        )
    )
