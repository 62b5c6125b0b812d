"""The sparse convolution as torch sees it: registration, gradients, FLOPs, compilation; and its layer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from regrow.core.errors import RegrowError
from regrow.execution import images
from regrow.execution.conv_ops import Geometry, sparse_conv2d
from regrow.execution.index import Index
from regrow.execution.sparse_conv import SparseConv2d

N, CHANNELS, SIDE, OUT = 4, 3, 6, 5
HOW = Geometry((3, 2), (2, 1), (1, 1), (1, 2))
SIZE = (OUT, *HOW.size(SIDE, SIDE))


def index() -> Index:
    width = CHANNELS * 6
    return Index.of((torch.rand(OUT * width) < 0.4).nonzero().squeeze(1), (OUT, width))


def leaves(where: Index, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """x, values, bias."""
    shapes = ((N, CHANNELS, SIDE, SIDE), (where.nnz,), (OUT,))
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    where = index()
    x, values, bias = leaves(where, dtype)
    lanes = images.lanes(x).detach().requires_grad_()
    opcheck(torch.ops.regrow.image_lanes, (x,))
    opcheck(torch.ops.regrow.image_rows, (lanes,))
    for form in (x, lanes):
        opcheck(torch.ops.regrow.sparse_conv2d, (form, values, bias, where.table, HOW.flat(), SIZE))
    opcheck(torch.ops.regrow.sparse_conv2d, (lanes, values, None, where.table, HOW.flat(), SIZE))
    grad = torch.randn(N, *SIZE, dtype=dtype)
    for needs in ([True, True, True], [False, True, False], [True, False, False]):
        plain = (grad, lanes.detach(), values.detach(), where.table, HOW.flat(), needs)
        tests = ("test_schema", "test_faketensor")
        opcheck(torch.ops.regrow.sparse_conv2d_backward, plain, test_utils=tests)


def test_gradcheck_in_float64() -> None:
    where = index()
    assert torch.autograd.gradcheck(lambda *a: sparse_conv2d(*a, where, HOW), leaves(where, torch.float64))


def test_flops_count_what_survives() -> None:
    where = index()
    with FlopCounterMode(display=False) as counter:
        sparse_conv2d(*leaves(where), where, HOW).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * where.nnz * N * SIZE[1] * SIZE[2]


def test_compiled_equals_eager() -> None:
    where = index()
    inputs = leaves(where)

    def step(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        return sparse_conv2d(x, values, bias, where, HOW).relu().square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours, eager = compiled(*inputs), step(*inputs)
    torch.testing.assert_close(ours, eager)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(eager, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_sizes_that_do_not_match_are_refused() -> None:
    where = index()
    x, values, bias = leaves(where)
    for wrong in ((x[:, 1:], values, bias), (x, values[1:], bias)):
        with pytest.raises(RegrowError, match=r"values of 5 filters over [23] channels"):
            sparse_conv2d(*wrong, where, HOW)
    with pytest.raises(RegrowError, match="bias of 4 for 5 channels"):
        sparse_conv2d(x, values, bias[1:], where, HOW)
    with pytest.raises(RegrowError, match=r"\(3, 2\) kernel does not fit into an image of \(0, 6\)"):
        sparse_conv2d(x[:, :, :0], values, bias, where, HOW)


def test_another_dtype_is_refused() -> None:
    where = index()
    x, values, bias = leaves(where)
    with pytest.raises(RegrowError, match=r"layer in torch.float32 was given torch.float64: .* torch.autocast"):
        sparse_conv2d(x.double(), values, bias, where, HOW)


LAYERS: dict[str, dict[str, Any]] = {
    "padded": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": (3, 5), "stride": 2, "padding": (1, 2), "bias": False},
    "same": {"kernel_size": (2, 3), "padding": "same", "dilation": 2},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflected": {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    "reflected same": {"kernel_size": 3, "padding": "same", "padding_mode": "circular"},
}


@pytest.mark.parametrize("share", [0.3, 0.0, 1.0])
@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_the_dense_one_with_zeros(name: str, share: float) -> None:
    plain = nn.Conv2d(3, 6, **LAYERS[name])
    at = (torch.rand(plain.weight.numel()) < share).nonzero().squeeze(1)
    gone = torch.ones(plain.weight.numel(), dtype=torch.bool).index_fill_(0, at, False)
    plain.weight.data.view(-1)[gone] = 0.0
    layer = SparseConv2d.take_over(copy.deepcopy(plain), at)
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), plain.state_dict().values(), strict=True))
    for x in (torch.randn(4, 3, 8, 9), torch.randn(3, 8, 9)):
        y, expected = layer(x), plain(x)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        y.square().sum().backward()
        expected.square().sum().backward()
    assert plain.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad.flatten()[at], rtol=1e-4, atol=1e-3)
    assert "nnz=" in repr(layer)
    assert type(copy.deepcopy(layer)) is nn.Conv2d
    assert type(layer.leave()) is nn.Conv2d
    assert torch.equal(layer.weight, plain.weight)
