"""Images in lanes: logical [N, C, H, W], in memory (C, H, W, N); for every pixel of every channel the batch is contiguous.

What works on images without a word about channels is torch's own, on such tensors as fast, and keeps the layout: ReLU
and its kin, dropout, sums. What does not is here, in `lane_norms.py` or in `sparse_conv.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regrow.execution.ops import lanes
from regrow.execution.rows import rows
from regrow.execution.sparse_linear import empty


def is_image_lanes(x: Tensor) -> bool:
    """Is x [N, C, H, W] in lanes, and not in rows as well?"""
    return x.dim() == 4 and not x.is_contiguous() and x.permute(1, 2, 3, 0).is_contiguous()


def flat(x: Tensor) -> Tensor:
    """x [N, C, H, W] in lanes as [H W N, C] in lanes, a view."""
    return x.permute(1, 2, 3, 0).view(x.shape[1], -1).t()


def image(x: Tensor, shape: torch.Size) -> Tensor:
    """What `flat` made of a tensor of this shape, back, a view."""
    n, channels, height, width = shape
    return x.t().view(channels, height, width, n).permute(3, 0, 1, 2)


def image_lanes(x: Tensor) -> Tensor:
    """x [N, C, H, W] in lanes: itself if it is, else one transposed copy."""
    if is_image_lanes(x):
        return x
    n, channels, height, width = x.shape
    return lanes(x.reshape(n, -1)).t().view(channels, height, width, n).permute(3, 0, 1, 2)


def image_rows(x: Tensor) -> Tensor:
    """x [N, C, H, W] out of lanes, as torch computes fastest: itself if it is, else one transposed copy."""
    return rows(x.flatten(1)).view(x.shape) if is_image_lanes(x) else x


class _Sideways(nn.Module):
    """For layers that treat channels and samples alike: with these exchanged, images in lanes are what torch calls
    channels_last, on which it is fast; exchanged again, what it gives is in lanes."""

    plain: ClassVar[type[nn.Module]]

    def forward(self, input: Tensor) -> Any:
        if not is_image_lanes(input) or getattr(self, "return_indices", False):
            return super().forward(input)  # type: ignore[misc]
        return super().forward(input.transpose(0, 1)).transpose(0, 1)  # type: ignore[misc]

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


class LaneConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense: torch computes it out of lanes; the result is in lanes again."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 4:
            return super().forward(input)
        return image_lanes(super().forward(image_rows(input)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return empty, (nn.Conv2d,), self.__dict__
