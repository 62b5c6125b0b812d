"""Pooling and dense convolutions among images in lanes (`images.py`).

What knows nothing of channels is torch's own, as fast on lanes, and keeps them: ReLU and its kin, dropout, sums.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from regrow.execution import images
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.sparse_layer import empty


class _Sideways(nn.Module):
    """For layers to which channels are what samples are: with these exchanged, images in lanes are what torch calls
    channels_last, on which it is fast; exchanged again, what it gives is in lanes."""

    plain: ClassVar[type[nn.Module]]

    def forward(self, input: Tensor) -> Any:
        if not in_image_lanes(input) or getattr(self, "return_indices", False):
            return super().forward(input)
        return super().forward(input.transpose(0, 1)).transpose(0, 1)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return empty, (self.plain,), self.__dict__


class LaneMaxPool2d(_Sideways, nn.MaxPool2d):
    plain = nn.MaxPool2d


class LaneAvgPool2d(_Sideways, nn.AvgPool2d):
    plain = nn.AvgPool2d


class LaneAdaptiveAvgPool2d(_Sideways, nn.AdaptiveAvgPool2d):
    plain = nn.AdaptiveAvgPool2d


class LaneAdaptiveMaxPool2d(_Sideways, nn.AdaptiveMaxPool2d):
    plain = nn.AdaptiveMaxPool2d


class RowConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense, before another that does: out of lanes, where torch computes it at half the speed."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(images.rows(input) if in_image_lanes(input) else input)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return empty, (nn.Conv2d,), self.__dict__


class LaneConv2d(RowConv2d):
    """The same before a sparse one: what it gives is in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(input)
        return images.lanes(y) if y.dim() == 4 else y
