"""Strangers: optimizers that move the weights while the sparsifier rides on another one."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
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
    _look_everywhere()
    watch, handle = _Watch(optimizer, sites), RemovableHandle(_WATCHES)
    _WATCHES[handle.id] = watch
    return [optimizer.register_step_pre_hook(watch.enter), optimizer.register_step_post_hook(watch.leave), handle]


class _Watch:
    """Over the sites of one optimizer, which it does not keep alive."""

    def __init__(self, optimizer: Optimizer, sites: Mapping[str, nn.Parameter]) -> None:
        self.ours, self.kind = weakref.ref(optimizer), type(optimizer).__name__
        self.names = {id(parameter): name for name, parameter in sites.items()}
        self.within, self.before = False, False

    def enter(self, *_: Any) -> None:
        self.within = True

    def leave(self, *_: Any) -> None:
        self.within, self.before = False, False

    def look(self, other: Optimizer) -> None:
        if self.within or other is self.ours():
            return
        held = (self.names[id(p)] for group in other.param_groups for p in group["params"] if id(p) in self.names)
        if (name := next(held, None)) is None:
            return
        if self.before:
            raise RegrowError(
                f"{type(other).__name__} trains {name!r}, but the sparsifier rides on another optimizer ({self.kind}), "
                "which does not step: the topology would never be updated. Make the optimizer first and give it to "
                "`sparsify`; to change it later, finalize() and sparsify again."
            )
        self.before = True


_WATCHES: OrderedDict[int, _Watch] = OrderedDict()


@cache
def _look_everywhere() -> None:
    """Once and for good: a hook that left when its optimizer is collected would leave in the middle of a step, while
    torch goes through its hooks."""
    register_optimizer_step_pre_hook(_look)


def _look(optimizer: Optimizer, *_: Any) -> None:
    for number, watch in [*_WATCHES.items()]:
        if watch.ours() is None:
            del _WATCHES[number]
        else:
            watch.look(optimizer)
