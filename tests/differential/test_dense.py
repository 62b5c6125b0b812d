"""Dense layers among activations in lanes, as products of matrices, against torch's own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from regrow.execution import images
from regrow.execution.lane_layers import LaneConv2d, LaneLinear, RowConv2d
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.norm_ops import in_lanes
from regrow.execution.sparse_conv import SparseConv2d

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "lanes": images.lanes,
    "rows": Tensor.contiguous,
    "expanded": lambda x: x[:1].expand_as(x),
}


def like(theirs: nn.Module, kind: type[nn.Module]) -> nn.Module:
    ours = copy.deepcopy(theirs)
    ours.__class__ = kind
    return ours


def agree(ours: nn.Module, theirs: nn.Module, x: Tensor, rtol: float = 1e-4) -> Tensor:
    """Outputs and gradients are torch's; returns the output."""
    leaves = [x.detach().requires_grad_(), x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()]
    y: Tensor = ours(leaves[0])
    wanted = theirs(leaves[1])
    grad = torch.randn_like(wanted)
    y.backward(grad)
    wanted.backward(grad)
    close: dict[str, Any] = {"rtol": rtol, "atol": rtol, "check_stride": False}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, **close)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad.view(p.shape), **close)  # type: ignore[union-attr]
    return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "bias": False}, {"stride": (1, 3)}], ids=str)
@pytest.mark.parametrize("kind", [LaneConv2d, RowConv2d])
def test_pointwise(kind: type[nn.Module], options: dict[str, Any], layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(5, 7, 1, **options).to(dtype)
    y = agree(like(theirs, kind), theirs, LAYOUTS[layout](torch.randn(6, 5, 5, 4, dtype=dtype)))
    assert in_image_lanes(y) == (kind is LaneConv2d or layout == "lanes")


def test_a_whole_sparse_pointwise_layer() -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(130, 7, 1, stride=2)
    ours = SparseConv2d.take_over(copy.deepcopy(theirs), torch.arange(theirs.weight.numel()))
    assert ours.by_torch
    assert in_image_lanes(ours(torch.randn(3, 130, 4, 4)))
    torch.testing.assert_close(ours(torch.ones(130, 4, 4)), theirs(torch.ones(130, 4, 4)))
    x, y = (torch.randn(3, 130, 4, 4).requires_grad_() for _ in range(2))
    y.data.copy_(x)
    for layer, at in ((ours, x), (theirs, y)):
        layer(at).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad.flatten(), rtol=1e-4, atol=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)], ids=str)
def test_linear(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for x in (torch.randn(shape), torch.randn(*shape[-1:], *shape[:-1]).movedim(0, -1)):
        theirs = nn.Linear(5, 7)
        y = agree(like(theirs, LaneLinear), theirs, x)
        assert in_lanes(y) == (len(shape) > 1)


def test_no_images() -> None:
    layer, x = like(nn.Conv2d(4, 3, 1), LaneConv2d), torch.zeros(0, 4, 2, 2, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 3, 2, 2)
    y.sum().backward()
    assert not any(p.grad.any() for p in layer.parameters())  # type: ignore[union-attr]


def test_bfloat16_as_autocast_has_it() -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(16, 8, 1)
    ours, x = like(theirs, LaneConv2d), torch.randn(6, 16, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y, wanted = ours(images.lanes(x)), theirs(x)
    assert y.dtype == wanted.dtype == torch.bfloat16
    assert in_image_lanes(y)
    torch.testing.assert_close(y, wanted, rtol=0.02, atol=0.02, check_stride=False)


def test_the_product_is_an_op() -> None:
    a, b = torch.randn(5, 3, requires_grad=True), torch.randn(3, 9, requires_grad=True)
    opcheck(torch.ops.regrow.product, (a, b))
    opcheck(torch.ops.regrow.product, (a.detach().t().contiguous().t(), b))
    with FlopCounterMode(display=False) as counter:
        (first,) = torch.autograd.grad(torch.ops.regrow.product(a, b).pow(3).sum(), a, create_graph=True)
    assert counter.get_total_flops() == 3 * 2 * 5 * 3 * 9
    (second,) = torch.autograd.grad(first.square().sum(), b)  # and so on
    (wanted,) = torch.autograd.grad((a @ b).pow(3).sum(), a, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(wanted.square().sum(), b)[0])
