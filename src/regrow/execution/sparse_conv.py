"""SparseConv2d: a convolution of images whose parameter is the vector of its surviving weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn.functional import pad

from regrow.core.topology import Shape
from regrow.execution import dense, groups, images
from regrow.execution.conv_ops import Geometry, filter_gradients, sparse_conv2d
from regrow.execution.index import Index
from regrow.execution.rivals import of_filters
from regrow.execution.sparse_layer import SparseLayer

Size = int | Sequence[int]
"""(height, width), or both at once."""

_MANY, _SOME = 1024, 128
"""Inputs of an output pixel from which on torch computes a whole layer faster, both transpositions included; and where
it needs none, as the layer is a product of matrices."""


class SparseConv2d(SparseLayer, nn.Conv2d):
    """y = W * x + b of which only the surviving weights exist: `weight` is their vector, [nnz], by output channel, then
    input channel, then tap. Gives images in lanes (`images.py`).

    With groups, it is the convolution of all channels in which the weights between groups are missing.
    """

    weight: nn.Parameter

    @property
    def shape(self) -> Shape:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    @property
    def matrix(self) -> tuple[int, int]:
        return self.out_channels, self.in_channels * prod(self.kernel_size)

    def placed(self, at: Tensor) -> Tensor:
        return groups.spread(at, self.shape, self.groups)

    def positions(self) -> Tensor:
        return groups.gathered(self.index.positions(), self.shape, self.groups)

    def gradient(self, grad: Tensor, x: Tensor, rows: slice) -> Tensor:
        return filter_gradients(grad, x, geometry(self).flat(), rows, self.groups).flatten(1)

    def rivals(self, grad: Tensor, x: Tensor, active: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
        return of_filters(grad, x, geometry(self).flat(), active, k) if self.groups == 1 else None

    @property
    def by_torch(self) -> bool:
        """Does torch compute it, as nothing is missing?"""
        return self.whole and prod(self.shape[1:]) >= (_SOME if dense.is_pointwise(self) else _MANY)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if self.by_torch and dense.is_pointwise(self):
            return dense.pointwise(images.lanes(input), self.weight.view(self.shape), self.bias, self.stride)
        if self.by_torch:
            return images.lanes(self._conv_forward(images.rows(input), self.weight.view(self.shape), self.bias))
        return convolved(self, input, self.index)


def convolved(layer: nn.Conv2d, x: Tensor, index: Index) -> Tensor:
    """What a layer of this geometry, whose weights lie in memory as the index has them, makes of images."""
    if layer.padding_mode != "zeros":
        x = pad(x, layer._reversed_padding_repeated_twice, layer.padding_mode)
    return sparse_conv2d(x, layer.weight.flatten(), layer.bias, index, geometry(layer))


def geometry(layer: nn.Conv2d) -> Geometry:
    """Without the padding that goes by another `padding_mode`: that is laid around the image before."""
    zeros = layer.padding_mode == "zeros"
    left, _, top, _ = layer._reversed_padding_repeated_twice if zeros else (0, 0, 0, 0)
    same = zeros and layer.padding == "same"
    return Geometry(pair(layer.kernel_size), pair(layer.stride), (top, left), pair(layer.dilation), same)


def pair(size: Size) -> tuple[int, int]:
    """(height, width), as torch reads it."""
    return (size, size) if isinstance(size, int) else (size[0], size[-1])
