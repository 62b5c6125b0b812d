"""Dense layers among activations in lanes, each as one product of matrices: W x over the lanes of all pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

torch.library.define("regrow::product", "(Tensor a, Tensor b) -> Tensor")

ONEDNN: bool = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
"""Has this torch oneDNN's product of matrices?"""

_ENOUGH = 2**23
"""Products in a product of matrices, below which an operator of our own costs more than oneDNN gains."""


def is_pointwise(layer: nn.Conv2d) -> bool:
    """Is it a matrix at every pixel: 1x1, in one group, with nothing laid around the image?"""
    return layer.kernel_size == (1, 1) and layer.groups == 1 and not any(layer._reversed_padding_repeated_twice)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    """y = W x + b at every pixel that the stride meets.

    Args:
        x: [N, C, H, W], in lanes.
        weight: [O, C] or [O, C, 1, 1].
        bias: [O] or None.

    Returns:
        [N, O, H', W'], in lanes.
    """
    down, right = stride
    pixels = x.permute(1, 2, 3, 0)[:, ::down, ::right]
    y = _affine(weight.flatten(1), pixels.flatten(1), bias)
    return y.view(weight.shape[0], *pixels.shape[1:]).permute(3, 0, 1, 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y = x W^T + b, x [..., in] of any strides, y [..., out] in lanes."""
    y = _affine(weight, x.reshape(-1, x.shape[-1]).t(), bias)
    return y.t().view(*x.shape[:-1], weight.shape[0])


def _affine(weight: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b, [out, n] of x [in, n]."""
    small = weight.numel() * x.shape[1] < _ENOUGH
    plain = x.dtype is weight.dtype is torch.float32 and x.is_cpu and not torch.is_autocast_enabled("cpu")
    if small or not (plain and ONEDNN):
        return weight @ x if bias is None else torch.addmm(bias[:, None], weight, x)
    y: Tensor = torch.ops.regrow.product(weight, x)
    return y if bias is None else y + bias[:, None]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b by oneDNN: of float32 in half the time of what torch.mm calls on some processors."""
    if not (a.numel() and b.numel()):
        return a @ b
    y: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return y


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (a, b), (first, second) = ctx.saved_tensors, ctx.needs_input_grad
    da = torch.ops.regrow.product(grad, b.t()) if first else None
    return da, torch.ops.regrow.product(a.t(), grad) if second else None


torch.library.impl("regrow::product", "CPU", _product)
torch.library.register_fake("regrow::product", lambda a, b: a.new_empty(a.shape[0], b.shape[1]))
torch.library.register_autograd("regrow::product", _backward, setup_context=_save)


@register_flop_formula(torch.ops.regrow.product)
def _flops(a: Any, b: Any, *rest: Any, **kwargs: Any) -> int:
    """2 out in n."""
    return 2 * int(a[0]) * int(a[1]) * int(b[1])
