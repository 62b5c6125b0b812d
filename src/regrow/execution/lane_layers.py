"""Pooling and dense convolutions among images in lanes (`images.py`).

What knows nothing of channels is torch's own, as fast on lanes, and keeps them: ReLU and its kin, dropout, sums.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from regrow.execution import groups, images, native
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.sparse_conv import convolved
from regrow.execution.stand_in import stand_in


def _sideways(pool: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """For layers to which channels are what samples are: with these exchanged, images in lanes are what torch calls
    channels_last, on which it is fast; exchanged again, what it gives is in lanes."""
    return pool(x.transpose(0, 1)).transpose(0, 1) if in_image_lanes(x) else pool(x)


@stand_in
class LaneMaxPool2d(nn.MaxPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.return_indices else _sideways(super().forward, input)


@stand_in
class LaneAvgPool2d(nn.AvgPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return _sideways(super().forward, input)


@stand_in
class LaneAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return _sideways(super().forward, input)


@stand_in
class LaneAdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.return_indices else _sideways(super().forward, input)


@stand_in
class RowConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense, before another that does: out of lanes, where torch computes it at half the speed."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(images.rows(input) if in_image_lanes(input) else input)


@stand_in
class LaneConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense, before a sparse one: what it gives is in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        y = super().forward(images.rows(input) if in_image_lanes(input) else input)
        return images.lanes(y) if y.dim() == 4 else y


@stand_in
class GroupedConv2d(nn.Conv2d):
    """nn.Conv2d in groups (depthwise, say) that stays dense: of images in lanes it makes images in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        if not in_image_lanes(input):
            return super().forward(input)
        if not native.serves(input, self.weight):
            return images.lanes(super().forward(images.rows(input)))
        return convolved(self, input, groups.whole(tuple(self.weight.shape), self.groups))
