"""The dense gradient of a convolution's filters, by the kernels, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_weight

from regrow.execution import images
from regrow.execution.conv_ops import Geometry, filter_gradients

pytestmark = pytest.mark.usefixtures("isa")


CASES = {
    "3x3": (64, 9, 6, 8, 11, Geometry((3, 3), (1, 1), (1, 1), (1, 1))),
    "ragged lanes": (5, 3, 9, 8, 7, Geometry((3, 3), (1, 1), (1, 1), (1, 1))),
    "many columns": (33, 2, 6, 70, 3, Geometry((3, 3), (1, 1), (0, 1), (2, 2))),
    "strided": (16, 16, 8, 8, 16, Geometry((3, 3), (2, 2), (1, 1), (1, 1))),
    "stride beyond the kernel": (1, 5, 7, 7, 9, Geometry((1, 1), (3, 3), (0, 0), (1, 1))),
    "odd in all": (16, 4, 9, 7, 5, Geometry((5, 2), (3, 2), (2, 0), (1, 2))),
    "padding beyond the image": (3, 2, 2, 3, 2, Geometry((2, 2), (1, 2), (4, 5), (1, 1))),
}


def factors(n: int, channels: int, high: int, wide: int, out: int, how: Geometry) -> tuple[Tensor, Tensor]:
    """Integers, so that sums are exact."""
    x = torch.randint(-3, 4, (n, channels, high, wide)).float()
    return torch.randint(-3, 4, (n, out, *how.size(high, wide))).float(), x


FLOAT, HALF = torch.float32, torch.bfloat16


@pytest.mark.parametrize("kinds", [(FLOAT, FLOAT), (HALF, HALF), (FLOAT, HALF)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_filters_get_torch_s_gradient(case: str, threads: int, kinds: tuple[torch.dtype, torch.dtype]) -> None:
    """Of bfloat16 factors too, as their sums are float32."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    (*sizes, how) = CASES[case]
    grad, x = factors(*sizes, how)
    size = [grad.shape[1], x.shape[1], *how.kernel]
    wanted = conv2d_weight(x, size, grad, how.stride, how.padding, how.dilation)
    grad, x = grad.to(kinds[0]), x.to(kinds[1])
    for rows in (slice(None), slice(1, 2)):
        found = filter_gradients(images.lanes(grad), images.lanes(x), how.flat(), rows)
        assert torch.equal(found, wanted[rows])
    assert torch.equal(filter_gradients(grad.expand_as(grad), x, how.flat(), slice(None)), wanted)
    torch.set_num_threads(before)


def test_the_output_may_be_as_large_as_the_input() -> None:
    """padding="same" of an even kernel: one more column after the last than before the first."""
    x, weight = torch.randn(4, 3, 5, 6), torch.randn(2, 3, 4, 2)
    y = conv2d(pad(x, (0, 1, 1, 2)), weight.requires_grad_())
    grad = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, weight, grad)
    how = Geometry((4, 2), (1, 1), (1, 0), (1, 1), same=True)
    torch.testing.assert_close(filter_gradients(grad, x, how.flat(), slice(None)), wanted, rtol=1e-4, atol=1e-4)
