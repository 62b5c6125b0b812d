"""Law 4: randomness is a function of (seed, step, name)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from zoo import ACROSS_LAYERS, OPTIMIZERS, STEPS, loss_at, sparse, tiny_model, train

import regrow
from regrow.core import rng
from regrow.core.topology import Topology


def end_of(method: str, **changes: Any) -> Topology:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method, **changes)
    train(model, optimizer, range(1, STEPS + 1))
    return sparsifier.topology


@pytest.mark.parametrize("method", regrow.METHODS)
def test_the_global_generator_neither_matters_nor_moves(method: str) -> None:
    ends = []
    for seed in (1, 2):
        model = tiny_model()
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        sparsifier = sparse(model, optimizer, method)
        train(model, optimizer, range(1, STEPS + 1))
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(sparsifier.topology)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("method", [m for m in regrow.METHODS if m != "gmp"])  # which draws nothing
def test_another_seed_gives_another_topology(method: str) -> None:
    assert end_of(method, seed=1) == end_of(method, seed=1)
    assert end_of(method, seed=1) != end_of(method, seed=2)


def layers(*names: str) -> nn.Module:
    """Linear layers side by side; each weight depends on its name alone."""
    model = nn.ModuleDict(OrderedDict((name, nn.Linear(20, 16)) for name in names))
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=rng.generator("weights", name)))
    return model


@pytest.mark.parametrize("method", [m for m in regrow.METHODS if m not in ("static", *ACROSS_LAYERS)])
def test_neither_other_layers_nor_their_order_matter(method: str) -> None:
    ends = []
    for names in (("a", "b", "c"), ("c", "a"), ("new", "c", "b", "a")):
        model = layers(*names)
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        sparsifier = sparse(model, optimizer, method, density=0.25)
        for step in range(1, STEPS + 1):
            inputs = torch.randn(8, 20, generator=torch.Generator().manual_seed(step))
            sum(layer(inputs).square().mean() for layer in model.children()).backward()  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()
        ends.append(sparsifier.topology)
    for name in ("a.weight", "c.weight"):
        assert all(torch.equal(end.index(name), ends[0].index(name)) for end in ends)
    assert not torch.equal(ends[0].index("a.weight"), ends[0].index("c.weight"))


def test_layers_of_one_shape_get_different_topologies() -> None:
    model = layers("a", "b")
    topology = sparse(model, OPTIMIZERS["sgd"](model.parameters()), "static").topology
    assert not torch.equal(topology.index("a.weight"), topology.index("b.weight"))


def test_the_seed_is_the_only_number_that_a_random_update_reads() -> None:
    """Two runs on different data: random growth differs only through what was dropped."""
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd"](model.parameters(), lr=0.0)
    sparsifier = sparse(model, optimizer, "set")
    other = tiny_model()
    other_optimizer = OPTIMIZERS["sgd"](other.parameters(), lr=0.0)
    other_sparsifier = sparse(other, other_optimizer, "set")
    for step in range(1, STEPS + 1):
        loss_at(model, step).backward()
        optimizer.step()
        loss_at(other, step + 1000).backward()
        other_optimizer.step()
    assert sparsifier.topology == other_sparsifier.topology != Topology.full(sparsifier.topology.shapes)
