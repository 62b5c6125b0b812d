"""BatchEnsemble: members that share every weight but for two vectors a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regrow.train.models.members import Members
from regrow.train.models.mlp import mlp


class RankOne(nn.Module):
    """W_i = W o (s_i r_i^T): member i's layer, run as y = s_i (W (r_i x)) + b_i (Wen et al. 2020, arXiv:2002.06715).

    `r` [M, in] and `s` [M, out] start as random signs; the layer's own `weight` is W.

    Args:
        layer: a linear layer or a convolution; it gives its bias to every member.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, members: int) -> None:
        super().__init__()
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        self.r, self.s = (_signs(members, size) for size in (inputs, layer.weight.shape[0]))
        self.b = None if layer.bias is None else nn.Parameter(layer.bias.detach().repeat(members, 1))
        self.layer = layer
        layer.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of member after member, [M B, in, ...] -> [M B, out, ...]."""
        y: Tensor = self.layer(x * self._rows(self.r, x)) * self._rows(self.s, x)
        return y if self.b is None else y + self._rows(self.b, x)

    def _rows(self, vectors: Tensor, x: Tensor) -> Tensor:
        rows = vectors.repeat_interleave(len(x) // len(vectors), 0)
        places = [1] * (x.dim() - 2)
        shape = [*places, -1] if isinstance(self.layer, nn.Linear) else [-1, *places]
        return rows.view(len(x), *shape)


class BatchEnsemble(Members):
    """All linear layers and convolutions of a network, rank-one for M members; what is normalised, is over all.

    Args:
        network: is taken over, not copied.
    """

    def __init__(self, network: nn.Module, members: int) -> None:
        super().__init__(members)
        for parent in [*network.modules()]:
            for name, layer in parent.named_children():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    parent.register_module(name, RankOne(layer, members))
        self.network = network

    def logits(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x.repeat(self.members, *[1] * (x.dim() - 1)))
        return out.view(self.members, len(x), -1)


def batch_ensemble(
    shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (1024, 1024), members: int = 4
) -> BatchEnsemble:
    """M multilayer perceptrons that share their weight matrices."""
    return BatchEnsemble(mlp(shape, classes, hidden), members)


def _signs(*shape: int) -> nn.Parameter:
    return nn.Parameter(2.0 * torch.randint(2, shape) - 1.0)
