"""The convolution kernels against torch's dense convolution in float64, on every instruction set of this machine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, pad

from regrow.execution import images
from regrow.execution.conv_ops import Geometry, sparse_conv2d
from regrow.execution.index import Index

Case = tuple[int, tuple[int, int, int], int, Geometry, float]
"""N; (C, H, W); O; the geometry; density."""


def square(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, same: bool = False) -> Geometry:
    return Geometry((kernel, kernel), (stride, stride), (padding, padding), (dilation, dilation), same)


CASES: dict[str, Case] = {
    "plain": (4, (3, 8, 8), 5, square(3, padding=1), 0.5),
    "whole tiles": (64, (16, 8, 8), 16, square(3, padding=1), 0.1),
    "one image": (1, (5, 9, 7), 6, square(3, padding=1), 0.5),
    "1x1": (3, (4, 7, 9), 5, square(1), 0.5),
    "1x1 strided": (20, (6, 8, 8), 6, square(1, 2), 0.5),
    "3x3 strided": (16, (4, 9, 8), 6, square(3, 2, 1), 0.5),
    "stride past the kernel": (8, (3, 13, 13), 4, square(2, 3), 0.4),
    "dilated": (33, (3, 12, 10), 4, square(3, 2, 2, 3), 0.3),
    "7x7": (2, (3, 20, 32), 4, square(7, 2, 3), 0.2),
    "uneven": (17, (3, 12, 10), 4, Geometry((5, 2), (1, 2), (1, 0), (2, 1)), 0.3),
    "same": (5, (3, 6, 7), 4, Geometry((2, 4), (1, 1), (0, 1), (1, 1), True), 0.5),
    "padding past the kernel": (4, (3, 6, 6), 4, square(3, padding=5), 0.5),
    "many channels: blocks": (24, (300, 6, 6), 4, square(3, padding=1), 0.3),
    "many filters: blocks back": (24, (4, 6, 6), 300, square(3, padding=1), 0.3),
    "tiny images": (64, (40, 2, 2), 50, square(3, padding=1), 0.1),
    "one pixel": (64, (4, 1, 1), 5, square(1), 0.5),
    "wide: strips": (16, (64, 4, 200), 8, square(3, padding=1), 0.05),
    "odd batch": (100, (7, 5, 6), 3, square(3), 0.4),
    "empty": (4, (3, 6, 6), 4, square(3, padding=1), 0.0),
    "full": (4, (3, 6, 6), 4, square(3, padding=1), 1.0),
}


def inputs(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor, Index]:
    """x, values, bias, grad; the index, of which one row in three is empty."""
    n, (channels, height, width), out, geometry, density = case
    columns = channels * geometry.kernel[0] * geometry.kernel[1]
    chosen = torch.rand(out, columns) < density
    chosen[1::3] &= density == 1.0
    index = Index.of(chosen.flatten().nonzero().squeeze(1), (out, columns))
    grad = torch.randn(n, out, *geometry.size(height, width), dtype=dtype)
    return torch.randn(n, channels, height, width, dtype=dtype), torch.randn(index.nnz), torch.randn(out), grad, index


def results(x: Tensor, values: Tensor, bias: Tensor, grad: Tensor, index: Index, geometry: Geometry) -> list[Tensor]:
    """Output and the three gradients."""
    leaves = [t.detach().requires_grad_() for t in (x, values, bias)]
    y = sparse_conv2d(*leaves, index, geometry)
    assert images.is_lanes(y)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def exact(x: Tensor, values: Tensor, bias: Tensor, grad: Tensor, index: Index, geometry: Geometry) -> list[Tensor]:
    leaves = [t.detach().double().requires_grad_() for t in (x, values, bias)]
    flat = torch.zeros(index.shape[0] * index.shape[1], dtype=torch.double)
    dense = flat.index_put((index.positions(),), leaves[1]).view(index.shape[0], x.shape[1], *geometry.kernel)
    top, left = geometry.padding
    more = [d * (k - 1) - 2 * p if geometry.same else 0 for k, p, d in zip(*geometry[:4:2], geometry[3], strict=True)]
    padded = pad(leaves[0], (left, left + more[1], top, top + more[0]))
    y = conv2d(padded, dense, leaves[2], geometry.stride, 0, geometry.dilation)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.double())]


def close(ours: list[Tensor], true: list[Tensor], near: float) -> None:
    for mine, other in zip(ours, true, strict=True):
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(mine.double(), other, rtol=near, atol=near * scale)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolutions_are_those_of_the_dense_layer(isa: str, case: Case) -> None:
    data = inputs(case)
    true, runs = exact(*data, case[3]), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        runs.append(results(*data, case[3]))
        close(runs[-1], true, 1e-5)
    if isa != "reference":
        assert all(torch.equal(run[0], runs[0][0]) and torch.equal(run[1], runs[0][1]) for run in runs)


@pytest.mark.parametrize(
    "case",
    [
        CASES[name]
        for name in (
            "plain",
            "whole tiles",
            "3x3 strided",
            "odd batch",
            "wide: strips",
            "many channels: blocks",
            "dilated",
        )
    ],
)
def test_bfloat16_is_rounded_once(isa: str, case: Case) -> None:
    x, values, bias, grad, index = inputs(case, torch.bfloat16)
    ours = results(x, values, bias, grad, index, case[3])
    assert [t.dtype for t in ours] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    close(ours, exact(x, values, bias, grad, index, case[3]), 8e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_images_leave_past_the_caches(isa: str, dtype: torch.dtype) -> None:
    case = (64, (16, 64, 64), 16, square(3, padding=1), 0.02)
    data = inputs(case, dtype)
    close(results(*data, case[3]), exact(*data, case[3]), 1e-5 if dtype is torch.float32 else 8e-3)


FORMS = {
    "lanes": lambda x: x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: x.repeat(1, 1, 2, 2)[:, :, : x.shape[2], : x.shape[3]],
    "permuted": lambda x: x.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3),
}


def same(isa: str, ours: list[Tensor], others: list[Tensor]) -> None:
    """To the bit; plain torch may choose another order of summation for other strides."""
    for a, b in zip(ours, others, strict=True):
        assert torch.equal(a, b) if isa != "reference" else torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_strides_make_no_difference(isa: str, form: str) -> None:
    case = CASES["3x3 strided"]
    x, values, bias, grad, index = inputs(case)
    expected = results(x, values, bias, grad, index, case[3])
    lay = FORMS[form]
    ours = results(lay(x), values.repeat_interleave(2)[::2], bias.repeat_interleave(2)[::2], lay(grad), index, case[3])
    same(isa, ours, expected)
    assert ours[1].stride() == (lay(x) if form in ("lanes", "channels_last") else x).stride()
    ones = torch.ones(1, 1, 1, 1).expand(grad.shape)
    whole = results(x, values, bias, ones.contiguous(), index, case[3])
    same(isa, results(x, values, bias, ones, index, case[3]), whole)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_that_nobody_needs_are_not_made(isa: str, needs: tuple[bool, bool, bool]) -> None:
    case = CASES["whole tiles"]
    x, values, bias, grad, index = inputs(case)
    some = torch.ops.regrow.sparse_conv2d_backward(grad, x, values, index.table, case[3].flat(), needs)
    for mine, other, needed in zip(some, exact(x, values, bias, grad, index, case[3])[1:], needs, strict=True):
        if needed:
            close([mine], [other], 1e-5)
        else:
            assert mine.numel() == 0


def test_no_samples_give_no_gradient(isa: str) -> None:
    x, values, bias, grad, index = inputs(CASES["plain"])
    y, dx, dw, db = results(x[:0], values, bias, grad[:0], index, CASES["plain"][3])
    assert y.shape == (0, 5, 8, 8)
    assert dx.shape == (0, 3, 8, 8)
    assert not dw.any()
    assert not db.any()


sides = st.integers(1, 9)


@settings(max_examples=40, deadline=None)
@given(
    n=st.sampled_from([1, 2, 3, 15, 16, 17, 40]), channels=st.integers(1, 5), out=st.integers(1, 5),
    height=sides, width=sides, kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)), padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)), density=st.sampled_from([0.1, 0.5, 1.0]),
    threads=st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_any_shape(
    n: int, channels: int, out: int, height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], dilation: tuple[int, int], density: float, threads: int,
) -> None:  # fmt: skip
    geometry = Geometry(kernel, stride, padding, dilation)
    if min(geometry.size(height, width)) < 1:
        return
    torch.set_num_threads(threads)
    data = inputs((n, (channels, height, width), out, geometry, density))
    close(results(*data, geometry), exact(*data, geometry), 1e-5)
