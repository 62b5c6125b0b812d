"""Normalisation layers that keep activations in lanes.

LayerNorm and BatchNorm1d of torch cost several times as much on lanes as on rows, and give rows back. While a model
runs truly sparse, its own are of the classes here: the same modules, names and hooks, and for input in rows the same
code. Their copies and pickles are plain.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regrow.execution.norm_ops import in_lanes, norm

Kind = TypeVar("Kind", bound=nn.Module)


class LaneLayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension; of lanes it makes lanes."""

    def forward(self, input: Tensor) -> Tensor:
        if not (serves(input, self.weight) and input.shape[-1:] == torch.Size(self.normalized_shape)):
            return super().forward(input)
        flat = input.flatten(0, -2)
        y, _, _ = norm(flat, self.weight, self.bias, self.eps, batch=False)
        return y.view(input.shape)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return plain, (nn.LayerNorm,), self.__dict__


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
        return plain, (nn.BatchNorm1d,), self.__dict__


LANES: dict[type[nn.Module], type[nn.Module]] = {nn.LayerNorm: LaneLayerNorm, nn.BatchNorm1d: LaneBatchNorm1d}
"""What a layer of exactly this class becomes."""


def take_over(model: nn.Module) -> list[nn.Module]:
    """Make the model's normalisation layers keep lanes; those that it changed, for `give_back`."""
    changed = [module for module in model.modules() if type(module) in LANES]
    for module in changed:
        module.__class__ = LANES[type(module)]
    return changed


def give_back(changed: list[nn.Module]) -> None:
    back = {ours: theirs for theirs, ours in LANES.items()}
    for module in changed:
        module.__class__ = back.get(type(module), type(module))


def serves(input: Tensor, weight: Tensor | None) -> bool:
    """Is this for the kernels: in lanes, on the CPU, the parameters in its type or in float32, as torch has it?"""
    kinds = (input.dtype, torch.float32 if input.dtype == torch.bfloat16 else input.dtype)
    floats = input.dtype in (torch.float32, torch.float64, torch.bfloat16)
    return (
        floats and input.is_cpu and (weight is None or weight.dtype in kinds) and input.numel() > 0 and in_lanes(input)
    )


def plain(kind: type[Kind]) -> Kind:
    """An empty module of torch's own class, to be filled by what a copy or a pickle holds."""
    return kind.__new__(kind)
