"""Backward passes that are not the training step's: attacks, penalties, gradients of gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from zoo import EVERY, OPTIMIZERS, batch, sparse, tiny_model

from regrow import RegrowError
from regrow.sparsifier import Sparsifier


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.LayerNorm(24), nn.Tanh(), nn.Linear(24, 4))


def begun(backend: str, model: nn.Sequential) -> tuple[nn.Sequential, torch.optim.Optimizer, Sparsifier]:
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    return model, optimizer, sparse(model, optimizer, "rigl-itop", backend=backend)


@pytest.mark.parametrize("make", [tiny_model, mlp])
def test_growth_follows_what_is_trained_on_and_not_an_attack_before_it(make: Callable[[], nn.Sequential]) -> None:
    """FGSM's gradient of the inputs passes every layer, and comes to no weight."""
    topologies = []
    for backend in ("masked", "sparse"):
        model, optimizer, sparsifier = begun(backend, make().double())
        for step in range(1, EVERY + 1):
            inputs, targets = batch(step)
            inputs = inputs.double().requires_grad_()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            (at,) = torch.autograd.grad(loss, inputs)
            attacked = (inputs + at.sign()).detach()
            nn.functional.cross_entropy(model(attacked), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert sparsifier.last_update is not None
        assert sparsifier.last_update["step"] == EVERY
        topologies.append(sparsifier.topology)
    assert topologies[0] == topologies[1]


def penalty(model: nn.Module) -> Tensor:
    inputs = batch(0)[0].requires_grad_()
    (grad,) = torch.autograd.grad(model(inputs).square().sum(), inputs, create_graph=True)
    return grad.square().sum()


@pytest.mark.parametrize("make", [tiny_model, mlp])
def test_a_gradient_of_gradients_is_whole_or_refused(make: Callable[[], nn.Sequential]) -> None:
    """A product without a second derivative would count as a constant: a wrong gradient, silently."""
    plain, _, sparsifier = begun("masked", make())
    penalty(plain).backward()  # type: ignore[no-untyped-call]
    twin = make()
    with torch.no_grad():
        for name, mask in sparsifier.topology.items():
            twin.get_parameter(name).mul_(mask)
    penalty(twin).backward()  # type: ignore[no-untyped-call]
    for name, mask in sparsifier.topology.items():
        masked, dense = plain.get_parameter(name).grad, twin.get_parameter(name).grad
        assert masked is not None
        assert dense is not None
        torch.testing.assert_close(masked, dense * mask)
    truly, _, _ = begun("sparse", make())
    with pytest.raises(RegrowError, match=r"no second derivatives.*backend='masked'"):
        penalty(truly).backward()  # type: ignore[no-untyped-call]


def test_a_graph_that_nobody_goes_back_through_is_fine() -> None:
    grads = []
    for create in (False, True):
        model, _, _ = begun("sparse", tiny_model())
        inputs, targets = batch(1)
        loss = nn.functional.cross_entropy(model(inputs), targets)
        grads.append(torch.autograd.grad(loss, [*model.parameters()], create_graph=create))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
