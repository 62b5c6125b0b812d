"""Closures: what a training framework hands to `optimizer.step` is run before the step."""

from __future__ import annotations

from typing import Any

import torch


def run_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments of `step(closure)` with the backward pass inside it done, so that gradients are there when due.

    None where there is no closure. Optimizers that call it several times (LBFGS) are refused at attachment.
    """
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    if closure is None:
        return None
    with torch.enable_grad():
        loss = closure()
    return args[:1], kwargs | {"closure": lambda: loss}
