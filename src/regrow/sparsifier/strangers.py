"""Strangers: optimizers that move the weights while the sparsifier rides on another one."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from regrow.core.errors import RegrowError


def refuse_strangers(optimizer: Optimizer, sites: Mapping[str, nn.Parameter]) -> list[RemovableHandle]:
    """Raise when another optimizer has stepped on a site twice and `optimizer` not at all: no update would ever come.

    One that wraps `optimizer`, or is wrapped by it, steps in turn with it and is none.
    """
    names = {id(parameter): name for name, parameter in sites.items()}
    ours, kind = weakref.ref(optimizer), type(optimizer).__name__
    within, before = False, False

    def enter(*_: Any) -> None:
        nonlocal within
        within = True

    def leave(*_: Any) -> None:
        nonlocal within, before
        within, before = False, False

    def look(other: Optimizer, *_: Any) -> None:
        nonlocal before
        if within or other is ours() or ours() is None:
            return
        held = (names[id(p)] for group in other.param_groups for p in group["params"] if id(p) in names)
        if (name := next(held, None)) is None:
            return
        if before:
            raise RegrowError(
                f"{type(other).__name__} trains {name!r}, but the sparsifier rides on another optimizer ({kind}), "
                "which does not step: the topology would never be updated. Make the optimizer first and give it to "
                "`sparsify`; to change it later, finalize() and sparsify again."
            )
        before = True

    everywhere = register_optimizer_step_pre_hook(look)
    weakref.finalize(optimizer, everywhere.remove).atexit = False
    return [optimizer.register_step_pre_hook(enter), optimizer.register_step_post_hook(leave), everywhere]
