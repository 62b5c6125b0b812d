"""Swish on the kernels, against its formula in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from regrow import RegrowError
from regrow.execution import images
from regrow.execution.soft_ops import swish

pytestmark = pytest.mark.usefixtures("isa")


def formula(x: Tensor, beta: float) -> Tensor:
    return x * torch.sigmoid(beta * x)


@pytest.mark.parametrize("beta", [0.3, 1.0, 10.0])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_values_and_gradients(dtype: torch.dtype, rtol: float, beta: float) -> None:
    spread = torch.cat([torch.linspace(-60, 60, 4001), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 3e4, -3e4])]) / beta
    x = spread.to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    grad = torch.linspace(-2, 2, len(x)).to(dtype)
    y, wanted = swish(x, beta), formula(exact, beta)
    torch.autograd.backward((y, wanted), (grad, grad.double()))
    least = 1e-7 / beta  # where sums of unlike signs cancel
    torch.testing.assert_close(y.double(), wanted, rtol=rtol, atol=least)
    assert x.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=rtol, atol=max(least, 1e-6))
    assert y.dtype == dtype


def test_what_is_no_number_stays_none() -> None:
    y = swish(torch.tensor([float("nan"), float("inf"), 1.0] * 30), 2.0).view(30, 3)
    assert y[:, 0].isnan().all()
    assert y[:, 1].isposinf().all()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "lanes": images.lanes,
    "rows": Tensor.contiguous,
    "expanded": lambda x: x[:1].expand_as(x),
    "sliced": lambda x: x[:, 1:, :, ::2],
}


@pytest.mark.parametrize("of_grad", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(layout: str, of_grad: str) -> None:
    torch.manual_seed(0)
    x = LAYOUTS[layout](torch.randn(5, 4, 3, 6)).detach().requires_grad_()
    y = swish(x, 3.0)
    assert images.is_lanes(y) == (layout == "lanes")
    torch.testing.assert_close(y, formula(x, 3.0), check_stride=False)
    grad = torch.randn(5, 4, 3, 6) if of_grad != "sliced" else torch.randn(5, y.shape[1] + 1, 3, 2 * y.shape[3])
    grad = LAYOUTS[of_grad](grad).narrow(3, 0, y.shape[3]).narrow(1, 0, y.shape[1])
    mine, wanted = (torch.autograd.grad(f(x, 3.0), x, grad)[0] for f in (swish, formula))
    torch.testing.assert_close(mine, wanted, check_stride=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    x = images.lanes(torch.randn(3, 5, 2, 2, dtype=dtype)).requires_grad_()
    opcheck(torch.ops.regrow.swish, (x, 2.0))
    opcheck(
        torch.ops.regrow.swish_backward,
        (x.detach().clone(), x.detach(), 2.0),
        test_utils=("test_schema", "test_faketensor"),
    )
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(lambda x: swish(x, 2.0), (x,))


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad(swish(x, 1.0).sum(), x, create_graph=True)
    with pytest.raises(RegrowError, match="no second derivatives"):
        torch.autograd.backward(first.sum())
