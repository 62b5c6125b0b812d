"""Masks of one bit against `torch.where`, to the bit, on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from regrow.execution import native
from regrow.execution.mask import Mask

SIZES = (1, 7, 8, 9, 31, 32, 33, 63, 64, 1000, 40_003)  # the last is shared among threads
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {  # of [6, 5, 3, 7]
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "part of a larger tensor": lambda x: torch.cat([x, x])[6:],
    "gaps between rows": lambda x: torch.cat([x, x], 1)[:, :5],
}


def active(*shape: int, density: float = 0.2) -> Tensor:
    return torch.rand(shape) < density


def same(a: Tensor, b: Tensor) -> bool:
    """To the bit."""
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.parametrize("rest", [0.0, -0.5])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_kernel_writes_what_where_gives(isa: str, threads: int, rest: float) -> None:
    if isa == "reference":
        pytest.skip("no kernel")
    torch.set_num_threads(threads)
    for n in SIZES:
        for density in (0.0, 0.1, 1.0):
            there, x = active(n, density=density), torch.randn(n + 1)[1:]  # off the alignment of vectors
            x[::5] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0, 1e-42]).repeat(n)[: len(x[::5])]
            expected = torch.where(there, x, rest)
            native.keep(x, native.pack(there), rest)
            assert same(x, expected), (n, density)


def test_nothing_beyond_the_tensor_is_touched(isa: str) -> None:
    for n in SIZES[:-1]:
        around = torch.ones(n + 2)
        Mask(partial(torch.zeros, n, dtype=torch.bool)).keep(around[1:-1])
        assert around.nonzero().flatten().tolist() == [0, n + 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_and_number_type(isa: str, layout: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    there = active(6, 5, 3, 7)
    mask = Mask(lambda: there)
    for rest in (0.0, 0.25):
        x = layout(torch.randn(6, 5, 3, 7, dtype=dtype))
        expected, copy, strides = torch.where(there, x, rest), torch.where(there, x, 0), x.stride()
        assert torch.equal(mask.kept(x), copy)
        mask.keep(x, rest)
        assert torch.equal(x, expected)
        assert x.stride() == strides


def test_a_gradient_with_a_graph_stays_differentiable(isa: str) -> None:
    there = active(40)
    x = torch.randn(40, requires_grad=True)
    square = x * x
    Mask(lambda: there).keep(square)
    (gradient,) = torch.autograd.grad(square.sum(), x)
    assert torch.equal(gradient, torch.where(there, 2 * x.detach(), 0))


def test_where_nothing_is_missing_nothing_is_done(isa: str) -> None:
    x = torch.randn(40)
    Mask(lambda: torch.ones(40, dtype=torch.bool)).keep(x)
    assert x._version == 0


def test_autograd_hears_of_the_change(isa: str) -> None:
    weight = torch.randn(40, requires_grad=True)
    loss = (weight * weight).sum()
    with torch.no_grad():
        Mask(lambda: active(40)).keep(weight)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, weight)
