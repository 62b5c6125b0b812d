"""Normalisation layers that keep activations in lanes.

LayerNorm and batch normalisation of torch cost several times as much on lanes as on rows, and give rows back. While a
model runs truly sparse, its own are of the classes here: the same modules, names and hooks, and for input in rows the
same code. Their copies and pickles are plain.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu as positive
from torch.nn.modules.batchnorm import _BatchNorm

from regrow.execution import images
from regrow.execution.batch_norm_ops import batch_norm, batch_normed
from regrow.execution.norm_ops import in_lanes, kind_of_statistics, layer_norm
from regrow.execution.stand_in import stand_in


@stand_in
class LaneLayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension; of lanes it makes lanes."""

    def forward(self, input: Tensor) -> Tensor:
        fits = in_lanes(input) and input.shape[-1:] == torch.Size(self.normalized_shape)
        if not (fits and serves(input, self.weight)):
            return super().forward(input)
        y, _, _ = layer_norm(input.flatten(0, -2), self.weight, self.bias, self.eps)
        return y.view(input.shape)


@stand_in
class LaneBatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d of [N, features]; of lanes it makes lanes."""

    def forward(self, input: Tensor) -> Tensor:
        return self.then(input)

    def then(self, x: Tensor, add: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """What the layer makes of x, times `scale`, + add; of lanes in one pass."""
        fits = x.dim() == 2 and in_lanes(x) and _fit(self, x, add)
        return normalised(self, x, add, scale=scale) if fits else _after(super().forward(x), add, False, scale)


@stand_in
class LaneBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d; of images in lanes it makes images in lanes."""

    def forward(self, input: Tensor) -> Tensor:
        return self.then(input)

    def then(self, x: Tensor, add: Tensor | None = None, relu: bool = False, scale: float = 1.0) -> Tensor:
        """What the layer makes of x, times `scale`, + add, cut at 0 if `relu`; of images in lanes in one pass."""
        fits = in_image_lanes(x) and _fit(self, x, add)
        return normalised(self, x, add, relu, scale) if fits else _after(super().forward(x), add, relu, scale)


def in_image_lanes(x: Tensor) -> bool:
    """Is x [N, C, H, W] in lanes, and not in rows as well?"""
    return x.dim() == 4 and not x.is_contiguous() and images.is_lanes(x)


def serves(input: Tensor, weight: Tensor | None) -> bool:
    """Is this for the kernels: on the CPU, the parameters in its type or in float32, as torch has it?"""
    kinds = (input.dtype, torch.float32 if input.dtype == torch.bfloat16 else input.dtype)
    floats = input.dtype in (torch.float32, torch.float64, torch.bfloat16)
    return floats and input.is_cpu and (weight is None or weight.dtype in kinds) and input.numel() > 0


def _fit(layer: _BatchNorm, x: Tensor, add: Tensor | None) -> bool:
    alike = add is None or (add.shape == x.shape and add.dtype == x.dtype)
    return alike and x.shape[1] == layer.num_features and serves(x, layer.weight)


def _after(y: Tensor, add: Tensor | None, relu: bool, scale: float) -> Tensor:
    """relu(scale y + add)"""
    y = y if scale == 1.0 else y * scale
    y = y if add is None else y + add
    return positive(y) if relu else y


def normalised(
    layer: _BatchNorm, x: Tensor, add: Tensor | None = None, relu: bool = False, scale: float = 1.0
) -> Tensor:
    """What the layer makes of x [N, features, ...] in lanes, times `scale`, + add, cut at 0 if `relu`."""
    mean, var = layer.running_mean, layer.running_var
    weight, bias = _scaled(layer, x, scale)
    if layer.training or mean is None or var is None:
        y, mean, var = batch_norm(x, weight, bias, layer.eps, add, relu)
        if layer.training and layer.track_running_stats:
            n = x.numel() // layer.num_features
            _track(layer, mean, var * (n / (n - 1)))
        return y
    if not torch.is_grad_enabled():
        return batch_normed(x, mean, var, weight, bias, layer.eps, add, relu)
    one = x.movedim(0, -1).unsqueeze(0)  # [1, features, ..., N], contiguous
    y = torch.nn.functional.batch_norm(one, mean, var, weight, bias, eps=layer.eps).squeeze(0).movedim(-1, 0)
    return _after(y, add, relu, 1.0)


def _scaled(layer: _BatchNorm, x: Tensor, scale: float) -> tuple[Tensor | None, Tensor | None]:
    """(gamma, beta) by which the layer's output comes out times `scale`: no pass over it."""
    weight, bias = layer.weight, layer.bias
    if scale == 1.0:
        return weight, bias
    gamma = x.new_full((layer.num_features,), scale, dtype=kind_of_statistics(x)) if weight is None else weight * scale
    return gamma, None if bias is None else bias * scale


@torch.no_grad()
def _track(layer: _BatchNorm, mean: Tensor, var: Tensor) -> None:
    batches = cast(Tensor, layer.num_batches_tracked)
    batches.add_(1)
    share = 1 / float(batches) if layer.momentum is None else layer.momentum
    for running, now in ((layer.running_mean, mean), (layer.running_var, var)):
        if running is not None:
            running.lerp_(now.to(running.dtype), share)
