"""The compiled kernels against the same product in dense float64, on every instruction set of this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from regrow.core.errors import RegrowError
from regrow.execution import native, ops, reference
from regrow.execution.index import Index

BATCHES = (1, 2, 3, 7, 16, 64, 65, 128, 200, 1000)
SHAPES = {  # name -> out, in, density
    "plain": (37, 53, 0.2),
    "one row": (1, 40, 0.5),
    "one column": (40, 1, 0.5),
    "one weight": (1, 1, 1.0),
    "full": (9, 11, 1.0),
    "empty": (5, 6, 0.0),
    "wide: blocks of columns": (20, 9000, 0.01),
    "tall: blocks of rows": (9000, 20, 0.01),
}


def index_of(out: int, width: int, density: float) -> Index:
    return Index.of((torch.rand(out * width) < density).nonzero().squeeze(1), (out, width))


def dense(index: Index, values: Tensor) -> Tensor:
    out, width = index.shape
    return values.new_zeros(out * width).index_put((index.positions(),), values).view(out, width)


def in_lanes(x: Tensor) -> Tensor:
    return x.t().contiguous().t()


def results(x: Tensor, values: Tensor, bias: Tensor, grad: Tensor, index: Index) -> list[Tensor]:
    """Output and the three gradients."""
    leaves = [t.detach().requires_grad_() for t in (x, values, bias)]
    y = ops.sparse_linear(*leaves, index)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def exact(x: Tensor, values: Tensor, bias: Tensor, grad: Tensor, index: Index) -> list[Tensor]:
    leaves = [t.detach().double().requires_grad_() for t in (x, values, bias)]
    y = linear(leaves[0], dense(index, leaves[1]), leaves[2])
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.double())]


def same(isa: str, a: Tensor, b: Tensor) -> None:
    """To the bit; plain torch may choose another order of summation for other strides."""
    assert torch.equal(a, b) if isa != "reference" else torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_products_are_those_of_the_dense_layer(isa: str, shape: tuple[int, int, float]) -> None:
    out, width, _ = shape
    index = index_of(*shape)
    values, bias = torch.randn(index.nnz), torch.randn(out)
    for n in BATCHES if width * out < 10**4 else (1, 65, 130):
        x, grad = torch.randn(n, width), torch.randn(n, out)
        true = exact(x, values, bias, grad, index)
        for lay in (in_lanes, Tensor.contiguous):
            ours = results(lay(x), values, bias, lay(grad), index)
            assert ops.is_lanes(ours[0])
            assert ops.is_lanes(ours[1]) == ops.is_lanes(lay(x))
            for mine, other in zip(ours, true, strict=True):
                torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
def test_gradients_that_nobody_needs_are_not_made(
    isa: str, needs: tuple[bool, bool, bool], dtype: torch.dtype, near: float
) -> None:
    index = index_of(30, 20, 0.3)
    values, x, grad = torch.randn(index.nnz), torch.randn(37, 20, dtype=dtype), torch.randn(37, 30, dtype=dtype)
    some = torch.ops.regrow.sparse_linear_backward(grad, x, values, index.table, needs)
    true = exact(x, values, torch.zeros(30), grad, index)[1:]
    for mine, other, needed in zip(some, true, needs, strict=True):
        if needed:
            torch.testing.assert_close(mine.double(), other, rtol=near, atol=near * 3)
        else:
            assert mine.numel() == 0


def test_no_samples_give_no_gradient(isa: str) -> None:
    index = index_of(30, 20, 0.3)
    x, grad = torch.randn(0, 20), torch.randn(0, 30)
    y, dx, dw, db = results(x, torch.randn(index.nnz), torch.randn(30), grad, index)
    assert y.shape == (0, 30)
    assert dx.shape == (0, 20)
    assert not dw.any()
    assert not db.any()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bfloat16_is_rounded_once(isa: str, shape: tuple[int, int, float]) -> None:
    """Activations and weights are rounded, sums are not, however wide the layer is."""
    out, width, _ = shape
    index = index_of(*shape)
    values, bias = torch.randn(index.nnz), torch.randn(out)
    for n in (1, 31, 130):
        x, grad = torch.randn(n, width).bfloat16(), torch.randn(n, out).bfloat16()
        true = exact(x, values.bfloat16(), bias, grad, index)
        for lay in (in_lanes, Tensor.contiguous):
            ours = results(lay(x), values, bias, lay(grad), index)
            assert [t.dtype for t in ours] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
            for mine, other in zip(ours, true, strict=True):
                scale = max([1.0, *other.abs().flatten().tolist()])
                torch.testing.assert_close(mine.double(), other, rtol=8e-3, atol=8e-3 * scale)


def test_strides_make_no_difference(isa: str) -> None:
    index = index_of(12, 10, 0.4)
    values, bias, x, grad = torch.randn(index.nnz), torch.randn(12), torch.randn(33, 10), torch.randn(33, 12)
    expected = results(in_lanes(x), values, bias, in_lanes(grad), index)
    forms = (x, x.repeat(1, 2)[:, :10], x.repeat_interleave(2, 0)[::2], in_lanes(x.repeat(2, 1))[:33])
    for form in forms:
        for mine, other in zip(results(form, values, bias, grad, index), expected, strict=True):
            same(isa, mine, other)
    strided = values.repeat_interleave(2)[::2], bias.repeat_interleave(2)[::2]
    for mine, other in zip(results(x, *strided, grad, index), expected, strict=True):
        same(isa, mine, other)
    ones = torch.ones(1).expand(33, 12)
    whole = results(x, values, bias, ones.contiguous(), index)
    for mine, other in zip(results(x, values, bias, ones, index), whole, strict=True):
        same(isa, mine, other)


@pytest.mark.parametrize("n", [1, 5, 40])
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_spread_as_in_the_products_that_exist(
    isa: str, n: int, odd: float, dtype: torch.dtype
) -> None:
    index = Index.of(torch.tensor([0, 2, 3, 7, 11]), (3, 4))
    values, x, grad = (
        torch.tensor([1.0, 2.0, -1.0, 3.0, 0.0]),
        torch.randn(n, 4, dtype=dtype),
        torch.randn(n, 3, dtype=dtype),
    )
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype is torch.float32 else {"rtol": 0.02, "atol": 0.05}
    x[-1, 3] = odd
    grad[0, 2] = odd
    ours = results(in_lanes(x), values, torch.zeros(3), in_lanes(grad), index)
    native.use("reference")
    for mine, other in zip(ours, results(x, values, torch.zeros(3), grad, index), strict=True):
        torch.testing.assert_close(mine, other, equal_nan=True, **near)


def test_bits_do_not_depend_on_the_number_of_threads(isa: str) -> None:
    index = index_of(300, 400, 0.1)
    data = torch.randn(130, 400), torch.randn(index.nnz), torch.randn(300), torch.randn(130, 300)
    runs = []
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        runs.append(results(*data, index))
    same = runs if isa != "reference" else runs[1:3]
    assert all(torch.equal(a, b) for run in same for a, b in zip(run, same[0], strict=True))


def test_work_is_shared_when_one_row_has_nearly_all_of_it(isa: str) -> None:
    torch.set_num_threads(3)
    index = Index.of(torch.cat((torch.arange(2000), torch.tensor([2000 * 7 + 3]))), (50, 2000))
    data = torch.randn(40, 2000), torch.randn(index.nnz), torch.randn(50), torch.randn(40, 50)
    for mine, other in zip(results(*data, index), exact(*data, index), strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_index_is_the_reference_index(kind: torch.dtype, shape: tuple[int, int, float]) -> None:
    out, width, density = shape
    positions = (torch.rand(out * width) < density).nonzero().squeeze(1)
    ours, plain = Index.of(positions.to(kind), (out, width)), Index.of(positions, (out, width))
    plain.table.fill_(-1)
    reference.fill(plain, positions)
    assert torch.equal(ours.table, plain.table)
    assert torch.equal(ours.positions(), positions)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("n", [1, 5, 40, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_narrow_index_changes_no_bit(
    isa: str, shape: tuple[int, int, float], dtype: torch.dtype, n: int, frozen: bool
) -> None:
    out, width, _ = shape
    wide = index_of(*shape)
    narrow = Index.of(wide.positions(), (out, width), narrow=True)
    values, bias = torch.randn(wide.nnz), torch.randn(out)
    x, grad = torch.randn(n, width, dtype=dtype), torch.randn(n, out, dtype=dtype)

    def made(index: Index) -> list[Tensor]:
        if not frozen:
            return results(x, values, bias, grad, index)
        leaf = x.clone().requires_grad_()
        return list(torch.autograd.grad(ops.sparse_linear(leaf, values, bias, index), leaf, grad))

    assert all(torch.equal(a, b) for a, b in zip(made(narrow), made(wide), strict=True))


@pytest.mark.parametrize("shape", [*SHAPES.values(), (2**16, 3, 0.1), (3, 2**16, 0.1)])
def test_a_narrow_index_says_the_same(isa: str, shape: tuple[int, int, float]) -> None:
    wide = index_of(*shape)
    narrow = Index.of(torch.arange(wide.nnz), wide.shape, narrow=True)
    narrow.refill(wide.positions())
    assert narrow.narrow
    assert narrow.nnz == wide.nnz
    assert narrow.fits(wide.nnz)
    assert not narrow.fits(wide.nnz + 1)
    assert all(torch.equal(a, b) for a, b in zip(narrow.lists(), wide.lists(), strict=True))
    assert torch.equal(narrow.positions(), wide.positions())
    assert not Index.of(torch.arange(3), (2**16 + 1, 1), narrow=True).narrow


@pytest.mark.parametrize("narrow", [False, True])
def test_an_index_moves_in_place(narrow: bool) -> None:
    index = Index.of(torch.tensor([0, 1, 5]), (2, 3), narrow)
    address = index.table.data_ptr()
    index.refill(torch.tensor([2, 3, 4]))
    assert index.positions().tolist() == [2, 3, 4]
    assert index.table.data_ptr() == address
    with pytest.raises(RegrowError, match="cannot hold 1"):
        index.refill(torch.tensor([2]))


def test_positions_past_32_bits() -> None:
    shape = (100_000, 100_000)
    positions = torch.randint(10**10, (5000,)).unique()
    index = Index.of(positions, shape)
    assert torch.equal(index.positions(), positions)
    x, values = torch.randn(2, shape[1]), torch.randn(index.nnz)
    y = ops.sparse_linear(x, values, None, index)
    expected = torch.zeros(shape[0]).index_add(0, positions // 10**5, values * x[0, positions % 10**5])
    torch.testing.assert_close(y[0], expected)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_the_environment_forces_an_instruction_set() -> None:
    code = "from regrow.execution import native; print(native.isa())"
    assert run_python(code, REGROW_ISA="portable").stdout.strip() in ("portable", "")
    assert "did you mean 'avx512'" in run_python(code, REGROW_ISA="avx51").stderr


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI", -1)
    native._find.cache_clear()
    try:
        with pytest.raises(RegrowError, match="another version than its Python code: install regrow again"):
            native.available()
    finally:
        native._find.cache_clear()


def test_without_the_library_plain_torch_runs_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(12, 10, 0.4)
    data = torch.randn(33, 10), torch.randn(index.nnz), torch.randn(12), torch.randn(33, 12)
    monkeypatch.setattr(native, "_chosen", None)
    monkeypatch.delenv(native.SWITCH, raising=False)
    monkeypatch.setattr(native, "NAME", "missing.so")
    native._find.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="correct and slower"):
            ours = results(*data, index)
        for mine, other in zip(ours, exact(*data, index), strict=True):
            torch.testing.assert_close(mine.double(), other, rtol=1e-4, atol=1e-4)
        results(*data, index)  # and silent from here on: warnings are errors
        assert native.isa() == "reference"
        with pytest.raises(RegrowError, match="have only: reference"):
            native.use("portable")
    finally:
        native._find.cache_clear()
