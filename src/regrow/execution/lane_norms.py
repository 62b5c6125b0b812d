"""Normalisation layers that keep activations in lanes.

LayerNorm and BatchNorm1d of torch cost several times as much on lanes as on rows, and give rows back. While a model
runs truly sparse, its own are of the classes here: the same modules, names and hooks, and for input in rows the same
code. Their copies and pickles are plain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from regrow.execution.norm_ops import in_lanes, norm
from regrow.execution.sparse_linear import empty


class LaneLayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension; of lanes it makes lanes."""

    def forward(self, input: Tensor) -> Tensor:
        if not (serves(input, self.weight) and input.shape[-1:] == torch.Size(self.normalized_shape)):
            return super().forward(input)
        flat = input.flatten(0, -2)
        y, _, _ = norm(flat, self.weight, self.bias, self.eps, batch=False)
        return y.view(input.shape)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return empty, (nn.LayerNorm,), self.__dict__


class LaneBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d of [N, features]; of lanes it makes lanes."""

    def forward(self, input: Tensor) -> Tensor:
        if not (input.dim() == 2 and serves(input, self.weight) and input.shape[1] == self.num_features):
            return super().forward(input)
        if not self.training and self.running_mean is not None:
            as_image = input.t().unsqueeze(0)  # [1, features, N], contiguous
            return super().forward(as_image).squeeze(0).t()
        y, mean, var = norm(input, self.weight, self.bias, self.eps, batch=True)
        if self.training and self.track_running_stats:
            self._track(mean, var * (len(input) / (len(input) - 1)))
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            if running is not None:
                running.lerp_(now.to(running.dtype), share)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return empty, (nn.BatchNorm1d,), self.__dict__


def serves(input: Tensor, weight: Tensor | None) -> bool:
    """Is this for the kernels: in lanes, on the CPU, the parameters in its type or in float32, as torch has it?"""
    kinds = (input.dtype, torch.float32 if input.dtype == torch.bfloat16 else input.dtype)
    floats = input.dtype in (torch.float32, torch.float64, torch.bfloat16)
    return (
        floats and input.is_cpu and (weight is None or weight.dtype in kinds) and input.numel() > 0 and in_lanes(input)
    )
