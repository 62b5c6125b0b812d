"""Batch normalisation folded into the layer before it gives what both give."""

from __future__ import annotations

import pytest
import torch
from regrow.execution.folded import folded, folds
from torch import nn


def norm_with_statistics(kind: type[nn.Module], features: int, **settings: bool) -> nn.Module:
    norm = kind(features, **settings)
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return norm.double().eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_convolution_and_its_norm_are_one_convolution(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, bias=bias).double()
    norm = norm_with_statistics(nn.BatchNorm2d, 5, affine=affine)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    weight, shift = folded(conv.weight, conv.bias, norm)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), norm(conv(x)), rtol=1e-12, atol=1e-12)


def test_a_linear_layer_and_its_norm_are_one_linear_layer() -> None:
    torch.manual_seed(0)
    layer, norm = nn.Linear(4, 5).double(), norm_with_statistics(nn.BatchNorm1d, 5)
    x = torch.randn(7, 4, dtype=torch.float64)
    weight, shift = folded(layer.weight, layer.bias, norm)
    torch.testing.assert_close(nn.functional.linear(x, weight, shift), norm(layer(x)), rtol=1e-12, atol=1e-12)


def test_only_a_norm_that_has_settled_folds() -> None:
    norm = nn.BatchNorm2d(3)
    assert not folds(norm)
    assert folds(norm.eval())
    assert not folds(nn.BatchNorm2d(3, track_running_stats=False).eval())
