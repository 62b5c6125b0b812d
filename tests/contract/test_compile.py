"""torch.compile: topology updates recompile nothing and change no decision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import OPTIMIZERS, STEPS, loss_at, plain, sparse, tiny_model, train

from regrow.core.topology import Topology


def small_mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 4)).double()


class Inputs(nn.Module):
    """The problem's images, in the model's number type."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(inputs.double())  # type: ignore[no-any-return]


def trained(compiled: bool, backend: str, method: str) -> Topology:
    model = small_mlp()
    runnable = torch.compile(model, backend=backend) if compiled else model
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(runnable, optimizer, method)
    first = sparsifier.topology
    whole = Inputs(runnable)
    plain(whole, optimizer, 1)  # compiled here
    with torch._dynamo.config.patch(error_on_recompile=True):
        train(whole, optimizer, range(2, STEPS + 1))
    assert sparsifier.topology != first
    for name, mask in sparsifier.topology.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
    return sparsifier.topology


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs"])
def test_updates_recompile_nothing(method: str) -> None:
    torch._dynamo.reset()
    assert trained(True, "aot_eager", method) == trained(False, "", method)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_a_compiled_optimizer_step_decides_alike() -> None:
    """Its graph breaks at the sparsifier, of which nothing is traced: torch would warn of what it cannot trace."""
    topologies = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = tiny_model()
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        sparsifier = sparse(model, optimizer)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for number in range(1, STEPS + 1):
            loss_at(model, number).backward()
            step()
            optimizer.zero_grad()
        topologies.append(sparsifier.topology)
    assert topologies[0] == topologies[1]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it imports inductor
def test_updates_recompile_nothing_through_inductor() -> None:
    torch._dynamo.reset()
    assert trained(True, "inductor", "rigl-itop") == trained(False, "", "rigl-itop")


def test_a_compiled_convolution() -> None:
    torch._dynamo.reset()
    model = tiny_model()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    sparsifier = sparse(compiled, optimizer, "rigl-itop")
    plain(compiled, optimizer, 1)
    with torch._dynamo.config.patch(error_on_recompile=True):
        train(compiled, optimizer, range(2, STEPS + 1))
    for name, mask in sparsifier.topology.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
