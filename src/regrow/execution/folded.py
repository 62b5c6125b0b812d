"""Batch normalisation in eval mode, one multiplication and one addition a channel, folded into the layer before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regrow.execution.conv_ops import sparse_conv2d_normed
from regrow.execution.lane_norms import LaneBatchNorm2d
from regrow.execution.sparse_conv import SparseConv2d, geometry


def folds(norm: _BatchNorm) -> bool:
    """Does it do the same to every batch: in eval mode, by statistics that it has kept?"""
    return not norm.training and norm.running_mean is not None and norm.running_var is not None


def affine(norm: _BatchNorm, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(s, t) [features], s = gamma / sqrt(var + eps), t = s (bias - mean) + beta: norm(z + bias) = s z + t.

    Of a norm that `folds` (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2, line 11). In the type of its
    statistics.
    """
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + norm.eps) if norm.weight is None else torch.rsqrt(var + norm.eps) * norm.weight
    shift = scale * (-mean if bias is None else bias - mean)
    return scale, shift if norm.bias is None else shift + norm.bias


def folded(weight: Tensor, bias: Tensor | None, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """(W', b') of norm(W x + b) = W' x + b', for the dense weight [O, ...] of a linear layer or a convolution.

    W'_o = s_o W_o, b' = t, with (s, t) of `affine`; in the type of W.
    """
    scale, shift = affine(norm, bias)
    return (weight * scale.view(-1, *[1] * (weight.dim() - 1))).to(weight), shift.to(weight)


def normed(
    conv: SparseConv2d, norm: LaneBatchNorm2d, x: Tensor, add: Tensor | None = None, relu: bool = False
) -> Tensor:
    """norm(conv(x)) + add, cut at 0 if `relu`; in one pass, by s W and t, where it folds and the layers are frozen.

    Nothing is kept from call to call, so that whatever the layers hold counts.
    """
    plain = conv.padding_mode == "zeros" and x.dim() == 4 and not conv.by_torch
    if not (plain and folds(norm) and norm.num_features == conv.out_channels) or _learn(conv, norm):
        return norm.then(conv(x), add, relu)
    scale, shift = affine(norm, conv.bias)
    return sparse_conv2d_normed(x, conv.weight, scale, shift, conv.index, geometry(conv), add, relu)


def _learn(*layers: nn.Module) -> bool:
    return torch.is_grad_enabled() and any(p.requires_grad for layer in layers for p in layer.parameters(recurse=False))
