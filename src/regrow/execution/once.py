"""Once: the kernels' backward passes have no derivative of their own, which is said when one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from regrow.core.errors import RegrowError

Grads = tuple[Tensor | None, ...]


class _Second(torch.autograd.Function):
    """Gradients as they are; their gradient is an error. Without it they would count as constants."""

    @staticmethod
    def forward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RegrowError(
            "truly sparse layers have no second derivatives, which a gradient penalty or a Hessian needs; use "
            "backend='masked', or exclude the layers it passes"
        )


def once(backward: Callable[..., Grads]) -> Callable[..., Grads]:
    """The backward function of an op, whose results can be looked at but not differentiated (create_graph=True)."""

    @wraps(backward)
    def run(ctx: Any, *grads: Tensor) -> Grads:
        found = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return found
        there = [grad.detach().requires_grad_() for grad in found if grad is not None]
        some: Iterator[Tensor] = iter(_Second.apply(*there))  # type: ignore[no-untyped-call]
        return tuple(None if grad is None else next(some) for grad in found)

    return run
