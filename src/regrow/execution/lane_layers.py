"""Pooling, resizing, GroupNorm and dense layers among images in lanes (`images.py`).

What knows nothing of channels is torch's own, as fast on lanes, and keeps them: ReLU and its kin, dropout, sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.utils._pytree import tree_map

from regrow.execution import dense, groups, images, native, pool_ops
from regrow.execution.lane_norms import in_image_lanes, serves
from regrow.execution.norm_ops import layer_norm
from regrow.execution.sparse_conv import Size, convolved, pair
from regrow.execution.stand_in import stand_in


def sideways(call: Callable[[Tensor], Any], x: Tensor) -> Any:
    """For what treats channels as it treats samples: with these exchanged, images in lanes are what torch calls
    channels_last, on which it is fast; exchanged again, what it gives is in lanes."""
    return tree_map(lambda y: y.transpose(0, 1), call(x.transpose(0, 1))) if in_image_lanes(x) else call(x)


def max_pool(
    call: Callable[..., Any],
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """What `call`, torch's max_pool2d, makes of this; of images in lanes by our kernels, where they can."""
    step = kernel_size if stride is None or stride == [] else stride
    window = pair(kernel_size), pair(step), pair(padding)
    plain = pair(dilation) == (1, 1) and not return_indices
    if plain and in_image_lanes(input) and pool_ops.fits(input, *window, ceil_mode):
        return pool_ops.max_pool(input, *window, ceil_mode)
    return sideways(
        lambda x: call(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=return_indices), input
    )


@stand_in
class LaneMaxPool2d(nn.MaxPool2d):
    def forward(self, input: Tensor) -> Any:
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        return max_pool(max_pool2d, input, *window)


@stand_in
class LaneAvgPool2d(nn.AvgPool2d):
    def forward(self, input: Tensor) -> Any:
        return sideways(super().forward, input)


@stand_in
class LaneAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    def forward(self, input: Tensor) -> Any:
        return sideways(super().forward, input)


@stand_in
class LaneAdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    def forward(self, input: Tensor) -> Any:
        return sideways(super().forward, input)


@stand_in
class LaneUpsample(nn.Upsample):
    def forward(self, input: Tensor) -> Any:
        return sideways(super().forward, input)


@stand_in
class LaneGroupNorm(nn.GroupNorm):
    """nn.GroupNorm; of images in lanes it makes images in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        fits = in_image_lanes(input) and input.shape[1] == self.num_channels and serves(input, self.weight)
        if not fits:
            return super().forward(input)
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Of x [N, C, H, W] in lanes, where the pixels and channels of a group are a row's features; in lanes."""
    n, channels, height, width = x.shape

    def of_groups(vector: Tensor | None) -> Sequence[Tensor | None]:
        """A number for each feature."""
        if vector is None:
            return [None] * groups
        return vector.repeat_interleave(height * width).view(groups, -1).unbind()

    parts = zip(x.permute(1, 2, 3, 0).reshape(groups, -1, n).unbind(), of_groups(weight), of_groups(bias), strict=True)
    normed = [layer_norm(part.t(), scale, shift, eps)[0].t() for part, scale, shift in parts]
    return torch.stack(normed).view(channels, height, width, n).permute(3, 0, 1, 2)


@stand_in
class RowConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense, before another that does: out of lanes, where torch computes it at half the speed,
    unless it is a product of matrices."""

    def forward(self, input: Tensor) -> Tensor:
        if in_image_lanes(input) and dense.is_pointwise(self):
            return dense.pointwise(input, self.weight, self.bias, self.stride)
        return super().forward(images.rows(input) if in_image_lanes(input) else input)


@stand_in
class LaneConv2d(nn.Conv2d):
    """nn.Conv2d that stays dense, before or beside a sparse one: what it gives is in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 4 and dense.is_pointwise(self):
            return dense.pointwise(images.lanes(input), self.weight, self.bias, self.stride)
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


@stand_in
class LaneLinear(nn.Linear):
    """nn.Linear that stays dense, beside a sparse one: what it gives is in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        return dense.linear(input, self.weight, self.bias)
