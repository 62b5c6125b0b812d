"""SparseLinear: a linear layer whose parameter is the vector of its surviving weights."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from regrow.core import positions
from regrow.core.errors import RegrowError
from regrow.core.topology import Shape
from regrow.execution import dense
from regrow.execution.ops import is_lanes, sparse_linear
from regrow.execution.sparse_layer import SparseLayer


class SparseLinear(SparseLayer, nn.Linear):
    """y = x W^T + b of which only the surviving weights exist: `weight` is their vector, [nnz], rows ascending.

    Args:
        in_features, out_features: shape of the matrix, which is never allocated.
        nnz: surviving weights, drawn uniformly; their values too, in +-1/sqrt(nnz / out_features).
        generator: of both; torch's own by default.

    Raises:
        RegrowError: nnz is not in 0..in_features * out_features.
    """

    weight: nn.Parameter
    narrow: ClassVar[bool] = True

    def __init__(
        self, in_features: int, out_features: int, nnz: int, bias: bool = True, generator: Generator | None = None
    ) -> None:
        nn.Module.__init__(self)
        if not 0 <= nnz <= in_features * out_features:
            raise RegrowError(
                f"nnz={nnz}: a {out_features} x {in_features} layer has 0 to {in_features * out_features}"
            )
        generator = generator or torch.default_generator
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(max(nnz / out_features, 1.0))
        self.weight = nn.Parameter(torch.empty(nnz).uniform_(-bound, bound, generator=generator))
        vector = torch.empty(out_features).uniform_(-bound, bound, generator=generator) if bias else None
        self.register_parameter("bias", None if vector is None else nn.Parameter(vector))
        self._begin(positions.sample(in_features * out_features, nnz, generator), nn.Linear)

    @property
    def shape(self) -> Shape:
        return self.out_features, self.in_features

    def gradient(self, grad: Tensor, x: Tensor, rows: slice) -> Tensor:
        """G^T X"""
        return grad[:, rows].t() @ x

    def forward(self, input: Tensor) -> Tensor:
        if self.whole:
            return dense_linear(input, self.weight.view(self.shape), self.bias)
        return sparse_linear(input, self.weight, self.bias, self.index)


def dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y = x W^T + b, in lanes if x [..., in] is: torch's own takes up to seven times as long over lanes of float32."""
    in_lanes = is_lanes(x.reshape(-1, x.shape[-1])) and x.dtype != torch.bfloat16
    return (dense.linear if in_lanes else linear)(x, weight, bias)
