"""Batch normalisation folded into the layer before it gives what both give."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from regrow.core.topology import Topology
from regrow.execution import images
from regrow.execution.folded import folded, folds, normed
from regrow.execution.index import Index
from regrow.execution.sparse import SparseBackend
from regrow.train.models.resnet import BasicBlock, Bottleneck


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


def sparse(model: nn.Module, density: float = 0.3) -> nn.Module:
    """Truly sparse, in eval mode, with statistics that are no defaults."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (*module.parameters(), module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    shapes = {f"{name}.weight": tuple(m.weight.shape) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    at = {site: (torch.rand(prod(shape)) < density).nonzero().squeeze(1) for site, shape in shapes.items()}
    SparseBackend().attach(model, Topology(at, shapes))
    return model.eval()


def both(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a model makes of x in inference, and where gradients are kept."""
    with torch.no_grad():
        ours = model(x)
    return ours, model(x)


NETS = {
    "strides, sums": lambda: nn.Sequential(BasicBlock(3, 8, 2), BasicBlock(8, 8, 1)),
    "bottlenecks": lambda: nn.Sequential(Bottleneck(3, 4, 2)),
    "a bias, one tap, no ReLU": lambda: nn.Sequential(nn.Conv2d(3, 7, 1), nn.BatchNorm2d(7)),
    "no scale, large taps": lambda: nn.Sequential(
        nn.Conv2d(3, 7, 5, 3, 2), nn.BatchNorm2d(7, affine=False), nn.ReLU(), nn.MaxPool2d(2)
    ),
    "padded by what is there": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4), nn.ReLU()
    ),
}


@pytest.mark.parametrize("samples", [1, 5, 16])
@pytest.mark.parametrize("net", NETS)
def test_inference_in_one_pass_is_inference_layer_by_layer(net: str, samples: int, isa: str) -> None:
    torch.manual_seed(0)
    model, x = sparse(NETS[net]()), torch.randn(samples, 3, 9, 9)
    ours, theirs = both(model, x)
    assert images.is_lanes(ours)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("net", NETS)
def test_frozen_layers_fold_for_the_gradient_of_their_input(net: str, isa: str) -> None:
    torch.manual_seed(0)
    model, x = sparse(NETS[net]()), torch.randn(5, 3, 9, 9, requires_grad=True)

    def answer() -> tuple[Tensor, Tensor]:
        y = model(x)
        return y, torch.autograd.grad(y.square().sum(), x)[0]

    y, dx = answer()
    model.requires_grad_(False)
    for ours, theirs in zip(answer(), (y, dx), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert not model(x.detach()).requires_grad


def test_what_convolutions_fold_is_what_the_norm_holds_now() -> None:
    torch.manual_seed(0)
    model, x = sparse(NETS["strides, sums"]()), torch.randn(4, 3, 8, 8)
    both(model, x)
    model[0].bn1.running_mean.data.add_(1)
    model[0].conv1.weight.data.mul_(2)
    torch.testing.assert_close(*both(model, x), rtol=1e-4, atol=1e-4)


def test_a_hook_is_called_and_hears_what_its_layer_gives() -> None:
    torch.manual_seed(0)
    model, heard = sparse(NETS["strides, sums"]()), []
    model[0].conv1.register_forward_hook(lambda *call: heard.append(call[2]))
    with torch.no_grad():
        model(torch.randn(4, 3, 8, 8))
    assert heard[0].min() < 0


def test_in_training_mode_nothing_folds() -> None:
    torch.manual_seed(0)
    model, x = sparse(NETS["bottlenecks"]()).train(), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(*both(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    where = Index.of(torch.arange(0, 4 * 27, 3), (4, 27))
    x = images.lanes(torch.randn(2, 3, 5, 5).to(dtype))
    add = images.lanes(torch.randn(2, 4, 5, 5).to(dtype))
    scale, shift = torch.rand(4), torch.randn(4)
    values = torch.randn(where.nnz, dtype=torch.float64 if dtype is torch.float64 else torch.float32)
    flat, size = [3, 3, 1, 1, 1, 1, 1, 1], [4, 5, 5]
    for given in (None, add):
        arguments = (x, values, shift.to(values), where.table, flat, size, scale.to(values), given, True)
        opcheck(torch.ops.regrow.sparse_conv2d_normed, arguments, test_utils=("test_schema", "test_faketensor"))


def test_under_autocast_it_is_bfloat16() -> None:
    torch.manual_seed(0)
    model, x = sparse(NETS["strides, sums"]()), torch.randn(16, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = both(model, x)
    assert ours.dtype is theirs.dtype is torch.bfloat16
    torch.testing.assert_close(ours, theirs.detach(), rtol=5e-2, atol=5e-2)


def test_a_shortcut_of_another_type_is_added_by_torch() -> None:
    torch.manual_seed(0)
    model = sparse(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    x, add = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        ours, theirs = normed(model[0], model[1], x, add, relu=True), (model(x) + add).relu()
    torch.testing.assert_close(ours, theirs)
