from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import regrow
from regrow import Every, Sparsifier, Topology
from regrow.core import growth
from regrow.core.distributions import ERK, Uniform
from regrow.core.schedules import Constant, Cosine
from regrow.core.site import Site
from regrow.methods import METHODS, build
from regrow.methods.base import describe
from regrow.methods.drop_grow import DropGrow


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))


def sparsified(model: nn.Module | None = None, **setup: Any) -> Sparsifier:
    model = mlp() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return regrow.sparsify(model, optimizer, **{"density": 0.2, "total_steps": 1000, "seed": 3} | setup)


def test_density_and_sparsity_say_the_same() -> None:
    one, other = sparsified(density=0.2), sparsified(density=None, sparsity=0.8)  # 1 - .8 is .19999999999999996
    assert one.topology == other.topology
    one.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("uniform", {"0.weight": 120, "2.weight": 60}),
        (Uniform(dense_first=True), {"0.weight": 600, "2.weight": 60}),
        ("erk", {"0.weight": 100, "2.weight": 80}),  # epsilon 2: 2 (20 + 30), 2 (30 + 10)
        (ERK(power=0.0), {"0.weight": 120, "2.weight": 60}),
    ],
)
def test_random_starts_have_exact_counts(start: Any, expected: dict[str, int]) -> None:
    sparsifier = sparsified(topology=start)
    assert {name: sparsifier.topology.nnz_of(name) for name in sparsifier.topology} == expected
    assert sparsifier.density == sum(expected.values()) / 900
    assert sparsifier.exploration_rate == sparsifier.density


def test_a_magnitude_start_keeps_the_largest_weights_of_the_whole_network() -> None:
    model = mlp()
    flat = torch.cat([model[0].weight.detach().reshape(-1), model[2].weight.detach().reshape(-1)]).abs()
    sparsifier = sparsified(model, topology="magnitude")
    kept = torch.cat([sparsifier.topology[name].reshape(-1) for name in sparsifier.topology])
    assert torch.equal(kept.nonzero().squeeze(), flat.topk(180).indices.sort().values)
    assert torch.equal(model[2].weight.detach(), mlp()[2].weight.detach() * sparsifier.topology["2.weight"])


def test_a_given_topology() -> None:
    given = Topology.from_masks({"0.weight": torch.rand(30, 20) < 0.3, "2.weight": torch.rand(10, 30) < 0.3})
    sparsifier = sparsified(topology=given, density=None)
    assert sparsifier.topology == given
    assert sparsified(topology=given, density=given.density).topology == given


def test_overrides() -> None:
    densities = sparsified(overrides={"2.*": 0.4}).topology.densities()
    assert densities["2.weight"] == 0.4
    assert densities["0.weight"] == 0.1


def test_hyper_parameters_by_name_value_and_object() -> None:
    method = sparsified(method="rigl", grow="random", fraction=0.5, every=50).method
    assert isinstance(method, DropGrow)
    assert method.grow is growth.random
    assert method.fraction == Cosine(0.5)
    assert method.every == Every(50, end=0.75)  # an int keeps the window
    assert sparsified(method="rigl", every=Every(20, 0.1, 0.5)).method.every == Every(20, 0.1, 0.5)
    assert sparsified(method="set", fraction=0.4).method.fraction == Constant(0.4)  # type: ignore[attr-defined]
    assert sparsified(method="set-itop", every=9, fraction=0.4).method.fraction == Cosine(0.4, 0.005)  # type: ignore[attr-defined]
    own = DropGrow(grow=growth.gradient, every=Every(10))
    assert sparsified(method=own).method == own
    assert sparsified(method=own, grow=growth.unexplored).method.grow is growth.unexplored  # type: ignore[attr-defined]


def power(site: Site, exponent: float) -> torch.Tensor:
    return site.weight.abs() ** exponent


def test_a_method_is_described_alike_in_every_process() -> None:
    words = describe(build("set", drop=partial(power, exponent=2.0)))
    assert words.startswith("DropGrow(drop=power(){'exponent': 2.0}, grow=random, fraction=Constant(value=0.3)")
    assert "0x" not in words


def test_a_method_that_updates_only_when_told() -> None:
    model = mlp()
    sparsifier = sparsified(model, method=DropGrow(every=None), total_steps=0)
    first = sparsifier.topology
    for step in range(4):
        if step == 2:
            sparsifier.explore(0.5)
        model(torch.randn(4, 20)).square().mean().backward()
        sparsifier.optimizer.step()
        sparsifier.optimizer.zero_grad()
        assert (sparsifier.topology == first) == (step < 2)


def test_the_long_way_is_the_same() -> None:
    model, other = mlp(), mlp()
    by_hand = Sparsifier(METHODS["rigl"](), density=0.2, total_steps=1000, seed=3)
    by_hand.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert by_hand.topology == sparsified(other, method="rigl").topology


def test_what_has_been_explored() -> None:
    model = mlp()
    sparsifier = sparsified(model, method="set", every=2, total_steps=20)
    seen, rates = sparsifier.topology, [sparsifier.exploration_rate]
    for _ in range(20):
        model(torch.randn(4, 20)).square().mean().backward()
        sparsifier.optimizer.step()
        sparsifier.optimizer.zero_grad()
        seen = seen | sparsifier.topology
        rates.append(sparsifier.exploration_rate)
    assert sparsifier.explored == seen
    assert rates == sorted(rates)
    assert rates[0] == 0.2 < rates[-1] < 1.0
    assert sparsifier.last_update is not None
    assert sparsifier.last_update["step"] == 20


def test_more_steps_than_foretold() -> None:
    """The schedules are over; training goes on."""
    model = mlp()
    sparsifier = sparsified(model, method="set", every=2, total_steps=6)
    ends = []
    for _ in range(12):
        model(torch.randn(4, 20)).square().mean().backward()
        sparsifier.optimizer.step()
        sparsifier.optimizer.zero_grad()
        ends.append(sparsifier.topology)
    assert sparsifier.step == 12
    assert ends[5] != ends[4]
    assert all(end == ends[5] for end in ends[6:])
