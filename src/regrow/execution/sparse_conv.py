"""SparseConv2d: a convolution of images whose parameter is the vector of its surviving weights."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torch.nn.functional import pad

from regrow.core.topology import Shape
from regrow.execution import images
from regrow.execution.conv_ops import Geometry, filter_gradients, sparse_conv2d
from regrow.execution.sparse_layer import SparseLayer

_MANY = 1024
"""Inputs of an output pixel from which on torch computes a whole layer faster, both transpositions included."""


class SparseConv2d(SparseLayer, nn.Conv2d):
    """y = W * x + b of which only the surviving weights exist: `weight` is their vector, [nnz], by output channel, then
    input channel, then tap. Without groups. Gives images in lanes (`images.py`)."""

    weight: nn.Parameter

    @property
    def shape(self) -> Shape:
        return self.out_channels, self.in_channels, *self.kernel_size

    @property
    def geometry(self) -> Geometry:
        """Without the padding that goes by another `padding_mode`: that is laid around the image before."""
        zeros = self.padding_mode == "zeros"
        left, _, top, _ = self._reversed_padding_repeated_twice if zeros else (0, 0, 0, 0)
        same = zeros and self.padding == "same"
        return Geometry(_pair(self.kernel_size), _pair(self.stride), (top, left), _pair(self.dilation), same)

    def gradient(self, grad: Tensor, x: Tensor, rows: slice) -> Tensor:
        return filter_gradients(grad[:, rows], x, self.geometry.flat()).flatten(1)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if self.whole and prod(self.shape[1:]) >= _MANY:
            return images.lanes(self._conv_forward(images.rows(input), self.weight.view(self.shape), self.bias))
        if self.padding_mode != "zeros":
            input = pad(input, self._reversed_padding_repeated_twice, self.padding_mode)
        return sparse_conv2d(input, self.weight, self.bias, self.index, self.geometry)


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    height, width = numbers
    return height, width
