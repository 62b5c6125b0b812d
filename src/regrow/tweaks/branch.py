"""Branch: a temporary path beside one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import skip_init

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Branch(nn.Module):
    """+ alpha BN(V x), V dense: for a convolution 1x1 in its stride and groups, for a linear layer a matrix.

    Args:
        layer: beside which it runs.
        generator: of V, drawn as torch draws the layer's own.
        identity: + alpha x instead, where input and output are alike; it has no parameters.
        constant: the value of all of V, instead of a draw.
    """

    def __init__(self, layer: Layer, generator: Generator, identity: bool, constant: float | None) -> None:
        super().__init__()
        self.alpha, self.positions = 1.0, 0
        self.entered: tuple[Tensor, Tensor] | None = None
        """What went into the layer and what came out, until the norm after it is reached."""
        self.trim = _trim(layer)
        if identity and _alike(layer):
            self.dense, self.norm = None, None
            return
        self.dense, self.norm = _dense(layer), _norm(layer)
        with torch.no_grad():
            if constant is None:
                nn.init.kaiming_uniform_(self.dense.weight, a=5**0.5, generator=generator)
            else:
                nn.init.constant_(self.dense.weight, constant)
        self.to(layer.weight.device, layer.weight.dtype)
        self.register_load_state_dict_pre_hook(_keep)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """What the layer gave for x, and this added."""
        x = F.pad(x, self.trim) if any(self.trim) else x
        if self.dense is None:
            return torch.add(out, x, alpha=self.alpha)
        y: Tensor = self.dense(x)
        if not isinstance(self.dense, nn.Linear):
            self.positions = y.shape[2:].numel()
            return self.join(y, out)
        self.positions = y.shape[1:-1].numel()
        return self.join(y.flatten(0, -2), out.flatten(0, -2)).view(out.shape)  # the features last

    def join(self, y: Tensor, out: Tensor) -> Tensor:
        """out + alpha BN(y)"""
        assert self.norm is not None
        return torch.add(out, self.norm(y), alpha=self.alpha)

    @property
    def flops(self) -> int:
        """Of one sample's forward pass, as last seen: 2 per multiply-add."""
        return 0 if self.dense is None else 2 * self.dense.weight.numel() * self.positions


def _dense(layer: Layer) -> Layer:
    if isinstance(layer, nn.Linear):
        linear: Layer = skip_init(nn.Linear, layer.in_features, layer.out_features, bias=False)  # type: ignore[no-untyped-call]
        return linear
    kind = next(kind for kind in _CONVOLUTIONS if isinstance(layer, kind))
    channels = layer.in_channels, layer.out_channels
    made: Layer = skip_init(kind, *channels, 1, stride=layer.stride, groups=layer.groups, bias=False)  # type: ignore[no-untyped-call]
    return made


def _norm(layer: Layer) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return nn.BatchNorm1d(layer.out_features)
    return _NORMS[len(layer.kernel_size) - 1](layer.out_channels)


def _alike(layer: Layer) -> bool:
    if isinstance(layer, nn.Linear):
        return layer.in_features == layer.out_features
    return layer.in_channels == layer.out_channels and set(layer.stride) == {1}


def _trim(layer: Layer) -> list[int]:
    """What to add to (or, negative, take from) each side of the input, so that the outputs are as large."""
    if not isinstance(layer, _ConvNd):
        return [0]
    trim: list[int] = []
    for at in reversed(range(len(layer.kernel_size))):
        reach = layer.dilation[at] * (layer.kernel_size[at] - 1)
        own = {"same": reach, "valid": 0}[layer.padding] if isinstance(layer.padding, str) else 2 * layer.padding[at]
        before = (own - reach) // 2
        trim += [before, own - reach - before]
    return trim


def _keep(branch: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """The state of the plain model has no branches: they stay as they are."""
    for key, value in branch.state_dict(prefix=prefix).items():
        state_dict.setdefault(key, value)
