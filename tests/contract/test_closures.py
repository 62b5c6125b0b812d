"""`optimizer.step(closure)`, as Lightning calls it, is the same training as `backward()` and `step()`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from zoo import OPTIMIZERS, STEPS, loss_at, plain, sparse, tiny_model, train

from regrow.sparsifier import Sparsifier

Call = Callable[[Optimizer, Callable[[], Tensor]], object]
CALLS: dict[str, Call] = {
    "in place": lambda optimizer, closure: optimizer.step(closure),
    "by name": lambda optimizer, closure: optimizer.step(closure=closure),
}


def trained(method: str, step_of: Callable[[nn.Module, Optimizer, int], None]) -> tuple[nn.Module, Sparsifier]:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    train(model, optimizer, range(1, STEPS + 1), step_of)
    return model, sparsifier


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("method", ["rigl", "rigl-itop"])
def test_a_closure_trains_alike(method: str, call: Call) -> None:
    """`rigl` replaces the step, so its update needs the gradient before."""
    losses = []

    def with_closure(model: nn.Module, optimizer: Optimizer, step: int) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_at(model, step)
            loss.backward()
            return loss

        losses.append(call(optimizer, closure))

    model, sparsifier = trained(method, with_closure)
    other, reference = trained(method, plain)
    assert sparsifier.topology == reference.topology
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(isinstance(loss, Tensor) for loss in losses)


def test_no_closure_is_none() -> None:
    """What wrappers pass on."""
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    sparse(model, optimizer)
    optimizer.step(None)
    optimizer.step(closure=None)
