"""Maxima over windows of images in lanes, against torch's own on NCHW: bit for bit."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from regrow import RegrowError
from regrow.execution import images, native
from regrow.execution.lane_calls import listening
from regrow.execution.lane_layers import LaneMaxPool2d, sideways
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.pool_ops import fits, max_pool
from regrow.execution.swap import take_over

pytestmark = pytest.mark.usefixtures("isa")

OPS = torch.ops.regrow
SHAPES = [(2, 3, 6, 6), (7, 2, 7, 5), (16, 3, 4, 8), (37, 1, 9, 9), (67, 2, 5, 6), (33, 65, 6, 6)]
WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 5, "stride": 1, "padding": 2},
    {"kernel_size": (1, 3), "stride": (3, 2), "padding": (0, 1), "ceil_mode": True},
    {"kernel_size": 1, "stride": 3},
    {"kernel_size": (4,), "stride": [], "padding": 2},
]
TYPES = [torch.float32, torch.bfloat16]


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of all ops that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def same(a: Tensor | None, b: Tensor | None) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, check_stride=False)


def agree(x: Tensor, grad: Any = None, **window: Any) -> Tensor:
    """Output and gradient are torch's; returns the output."""
    mine, theirs = images.lanes(x).detach().requires_grad_(), x.clone().requires_grad_()
    layer = LaneMaxPool2d(**window)
    with Calls() as calls:
        y = cast(Tensor, layer(mine))
    assert ("regrow.max_pool.default" in calls.names) == (native.serves(x) and in_image_lanes(mine))
    wanted = nn.MaxPool2d(**window)(theirs)
    grad = torch.randn_like(wanted) if grad is None else grad(wanted)
    y.backward(grad)  # type: ignore[no-untyped-call]
    wanted.backward(grad)
    same(y, wanted)
    same(mine.grad, theirs.grad)
    assert images.is_lanes(y)
    with torch.no_grad(), Calls() as calls:
        same(layer(mine), wanted)
    return y


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_any_size(window: dict[str, Any], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    agree(torch.randn(shape).to(dtype), **window)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", WINDOWS[:4], ids=str)
def test_ties_and_what_is_no_number(window: dict[str, Any], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    few = torch.tensor([0.0, -0.0, 1.0, -1.0, float("inf"), -float("inf"), float("nan")])
    for values in (few[:2], few[:4], few[4:6], few):
        agree(values[torch.randint(len(values), (37, 2, 7, 7))].to(dtype), **window)
    agree(torch.full((37, 2, 7, 7), -float("inf"), dtype=dtype), **window)


def test_one_image_and_none() -> None:
    agree(torch.randn(1, 3, 6, 6), kernel_size=2)
    agree(torch.randn(0, 3, 6, 6), kernel_size=2)


@pytest.mark.parametrize("layout", ["expanded", "rows", "sliced"])
def test_gradients_in_any_layout(layout: str) -> None:
    layouts = {
        "expanded": lambda y: torch.randn(1, 1, 1, 1).expand_as(y),
        "rows": torch.randn_like,
        "sliced": lambda y: torch.randn(*y.shape[:-1], 2 * y.shape[-1])[..., ::2],
    }
    agree(torch.randn(19, 3, 7, 7), layouts[layout], kernel_size=3, stride=2, padding=1)


LEFT_TO_TORCH: list[tuple[dict[str, Any], torch.dtype]] = [
    ({"kernel_size": 2, "dilation": 2}, torch.float32),
    ({"kernel_size": 2, "return_indices": True}, torch.float32),
    ({"kernel_size": 16, "padding": 8}, torch.float32),
    ({"kernel_size": 2}, torch.float64),
    ({"kernel_size": 2}, torch.int32),
]


@pytest.mark.parametrize(("window", "dtype"), LEFT_TO_TORCH, ids=str)
def test_all_else_is_torchs(window: dict[str, Any], dtype: torch.dtype) -> None:
    x = images.lanes((torch.randn(5, 3, 16, 16) * 9).to(dtype))
    with Calls() as calls:
        y = LaneMaxPool2d(**window)(x)
    assert "regrow.max_pool.default" not in calls.names
    wanted = nn.MaxPool2d(**window)(x.contiguous())
    for mine, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (y, wanted)), strict=True):
        same(mine, other)
        assert images.is_lanes(mine)


@pytest.mark.parametrize(
    "window", [{"kernel_size": 9}, {"kernel_size": 2, "padding": 2}, {"kernel_size": 2, "stride": 0}], ids=str
)
def test_torch_refuses_what_it_refuses(window: dict[str, Any]) -> None:
    x = torch.randn(5, 3, 6, 6)
    with pytest.raises(RuntimeError) as theirs:
        nn.MaxPool2d(**window)(x)
    with pytest.raises(RuntimeError) as ours:
        LaneMaxPool2d(**window)(images.lanes(x))
    assert str(ours.value).split()[:3] == str(theirs.value).split()[:3]


def test_threads_change_no_bit() -> None:
    x, before = images.lanes(torch.randn(32, 7, 15, 15)), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaf = x.clone().requires_grad_()
            y = LaneMaxPool2d(3, 2, 1)(leaf)
            y.sum().backward()
            found.append((y, leaf.grad))
    finally:
        torch.set_num_threads(before)
    for one, three in zip(*found, strict=True):
        assert torch.equal(one, three)


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(torch.relu(x), 3, stride=2, padding=1)


def test_within_a_chain_images_stay_in_lanes() -> None:
    theirs = nn.Sequential(nn.BatchNorm2d(5), nn.MaxPool2d(2), Functional(), nn.BatchNorm2d(5))
    ours = copy.deepcopy(theirs)
    take_over(ours)
    ours[2].__class__ = listening(ours[2])  # type: ignore[assignment]
    x = torch.randn(9, 5, 13, 13)
    laid = images.lanes(x)
    with Calls() as calls:
        y = ours(laid)
    torch.testing.assert_close(y, theirs(x), rtol=1e-4, atol=1e-4, check_stride=False)
    assert in_image_lanes(y)
    assert calls.names.count("regrow.max_pool.default") == (2 if native.serves(x) else 0)
    assert not any("image_" in name for name in calls.names)


WINDOW = ([3, 2], [2, 2], [1, 0])


@pytest.mark.parametrize("dtype", TYPES)
def test_opcheck(isa: str, dtype: torch.dtype) -> None:
    x = images.lanes(torch.randn(5, 3, 7, 6).to(dtype)).requires_grad_()
    assert fits(x, *WINDOW, True) == (isa != "reference")
    if isa == "reference":
        return
    opcheck(OPS.max_pool, (x, *WINDOW, True, True))
    y, which = OPS.max_pool(x.detach(), *WINDOW, True, True)
    opcheck(OPS.max_pool_backward, (y, which, 7, 6, *WINDOW), test_utils=("test_schema", "test_faketensor"))
    alone, nothing = OPS.max_pool(x.detach(), *WINDOW, True, False)
    same(alone, y)
    assert not nothing.numel()


def test_no_second_derivatives(isa: str) -> None:
    if isa == "reference":
        return
    x = images.lanes(torch.randn(5, 3, 6, 6)).requires_grad_()
    y = max_pool(x, [2, 2], [2, 2], [0, 0], False)
    (dx,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    with pytest.raises(RegrowError, match="second derivatives"):
        dx.sum().backward()  # type: ignore[no-untyped-call]


def test_sideways_gives_the_same() -> None:
    x = images.lanes(torch.randn(21, 4, 8, 8))
    same(LaneMaxPool2d(3, 2, 1)(x), sideways(lambda x: functional.max_pool2d(x, 3, 2, 1), x))
