"""The sparse ops as torch sees them: registration, gradients, layout, FLOPs, compilation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from regrow.core.errors import RegrowError
from regrow.execution import ops
from regrow.execution.index import Index

OUT, WIDTH, N = 7, 11, 15


def index() -> Index:
    return Index.of((torch.rand(OUT * WIDTH) < 0.4).nonzero().squeeze(1), (OUT, WIDTH))


def leaves(
    where: Index, dtype: torch.dtype = torch.float32, n: tuple[int, ...] = (N,)
) -> tuple[Tensor, Tensor, Tensor]:
    """x, values, bias."""
    shapes = ((*n, WIDTH), (where.nnz,), (OUT,))
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    where = index()
    x, values, bias = leaves(where, dtype)
    call = where.table, OUT
    lanes = ops.lanes(x).detach().requires_grad_()
    opcheck(torch.ops.regrow.lanes, (x,))
    opcheck(torch.ops.regrow.sparse_linear, (x, values, bias, *call))
    opcheck(torch.ops.regrow.sparse_linear, (lanes, values, None, *call))
    grad = torch.randn(N, OUT, dtype=dtype)
    for form in (x.detach(), lanes.detach(), x.detach()[:, :1].expand(N, WIDTH)):
        plain = (grad, form, values.detach(), where.table)
        for needs in ([True, True, True], [False, True, False], [True, False, False]):
            tests = ("test_schema", "test_faketensor")
            opcheck(torch.ops.regrow.sparse_linear_backward, (*plain, needs), test_utils=tests)


@pytest.mark.parametrize("n", [(1,), (4,), (2, 3)])
def test_gradcheck_in_float64(n: tuple[int, ...]) -> None:
    where = index()
    assert torch.autograd.gradcheck(lambda *a: ops.sparse_linear(*a, where), leaves(where, torch.float64, n))


def test_output_is_in_lanes_and_rows_of_sequences_view_freely() -> None:
    where = index()
    x, values, bias = leaves(where, n=(3, 5))
    y = ops.sparse_linear(x, values, bias, where)
    assert y.stride() == (5, 1, 15)
    assert y.view(15, OUT).data_ptr() == y.data_ptr()
    weight = torch.zeros(OUT * WIDTH).index_put((where.positions(),), values).view(OUT, WIDTH)
    torch.testing.assert_close(y, linear(x, weight, bias))


def test_lanes_are_taken_as_they_are() -> None:
    x = torch.randn(WIDTH, N).t()
    assert ops.lanes(x) is x
    for form in (x.contiguous(), x[::2], x[:, ::2], x.double().contiguous(), x.bfloat16().contiguous()):
        assert ops.is_lanes(ops.lanes(form))
        assert torch.equal(ops.lanes(form), form)
    for dtype in (torch.float32, torch.bfloat16):
        grid = torch.randn(67, 43).to(dtype)
        assert torch.equal(ops.lanes(grid), grid)


def test_flops_count_what_survives() -> None:
    where = index()
    with FlopCounterMode(display=False) as counter:
        ops.sparse_linear(*leaves(where), where).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * where.nnz * N


def test_compiled_equals_eager() -> None:
    where = index()
    inputs = leaves(where)

    def step(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        return ops.sparse_linear(x, values, bias, where).relu().square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    ours, eager = compiled(*inputs), step(*inputs)
    torch.testing.assert_close(ours, eager)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(eager, inputs), strict=True):
        torch.testing.assert_close(a, b)


def test_sizes_that_do_not_match_are_refused() -> None:
    where = index()
    x, values, bias = leaves(where)
    for wrong in ((x[:, 1:], values, bias), (x, values[1:], bias)):
        with pytest.raises(RegrowError, match=r"values of a \[7, 1[01]\] matrix"):
            ops.sparse_linear(*wrong, where)
    with pytest.raises(RegrowError, match="bias of 6 for 7 rows"):
        ops.sparse_linear(x, values, bias[1:], where)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_another_dtype_is_refused_unless_autocast_sees_to_it(dtype: torch.dtype) -> None:
    where = index()
    x, values, bias = (leaf.detach() for leaf in leaves(where))
    with pytest.raises(RegrowError, match=rf"layer in torch.float32 was given {dtype}: .* torch.autocast"):
        ops.sparse_linear(x.to(dtype), values, bias, where)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.sparse_linear(x.to(dtype), values, bias, where).dtype is torch.bfloat16
