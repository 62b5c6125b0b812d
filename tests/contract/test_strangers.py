"""An optimizer that the sparsifier does not ride on: refused when it trains the sites alone, welcome otherwise."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

import regrow
from regrow import RegrowError
from regrow.sparsifier import Sparsifier
from regrow.sparsifier.strangers import _WATCHES


class Wrapper(Optimizer):
    """As SAM is: an optimizer of the same parameters whose step is another's."""

    def __init__(self, params: Any, lr: float) -> None:
        self.inner = SGD(params, lr=lr)
        super().__init__(self.inner.param_groups, {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        self.inner.step()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def sparse(model: nn.Module, optimizer: Optimizer, backend: str) -> Sparsifier:
    rest: dict[str, Any] = {"density": 0.5, "total_steps": 100, "every": 2, "backend": backend}
    return regrow.sparsify(model, optimizer, method="set", **rest)


def train(model: nn.Module, *optimizers: Optimizer, steps: int = 6) -> None:
    for _ in range(steps):
        model(torch.randn(4, 8)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_an_optimizer_made_after_sparsify_is_refused(backend: str) -> None:
    model = net()
    sparsifier = sparse(model, SGD(model.parameters(), lr=0.01), backend)
    with pytest.raises(RegrowError, match=r"Adam trains '0\.weight', but .* another optimizer \(SGD\).* finalize\(\)"):
        train(model, torch.optim.Adam(model.parameters()))
    sparsifier.finalize()
    train(model, torch.optim.Adam(model.parameters()))


@pytest.mark.parametrize("outer", [True, False])
def test_one_that_wraps_or_is_wrapped_is_none(outer: bool) -> None:
    model = net()
    wrapper = Wrapper(list(model.parameters()), lr=0.01)
    sparsifier = sparse(model, wrapper if outer else wrapper.inner, "masked")
    train(model, wrapper)
    assert sparsifier.step == 6


def test_one_of_other_parameters_is_none() -> None:
    model, head = net(), nn.Parameter(torch.ones(4))
    sparse(model, SGD(model.parameters(), lr=0.01), "masked")
    other = SGD([head], lr=0.01)
    for _ in range(3):
        head.square().sum().backward()
        other.step()


def test_nothing_is_left_of_one_that_is_forgotten() -> None:
    model = net()
    sparsifier = sparse(model, SGD(model.parameters(), lr=0.01), "masked")
    optimizer, watches = weakref.ref(sparsifier.optimizer), len(_WATCHES)
    del model, sparsifier
    gc.collect()
    assert optimizer() is None
    other = net()
    train(other, SGD(other.parameters(), lr=0.01), steps=1)
    assert len(_WATCHES) < watches


def test_one_may_be_forgotten_in_the_middle_of_a_step() -> None:
    """Garbage is collected whenever it likes, also while torch goes through the hooks of all optimizers."""
    model, other = net(), net()
    kept = [sparse(model, SGD(model.parameters(), lr=0.01), "masked")]

    def forget(*_: Any) -> None:
        kept.clear()
        gc.collect()

    handle = register_optimizer_step_pre_hook(forget)
    last = register_optimizer_step_pre_hook(lambda *_: None)  # so that torch has to go on
    del model
    try:
        train(other, SGD(other.parameters(), lr=0.01), steps=2)
    finally:
        handle.remove()
        last.remove()
