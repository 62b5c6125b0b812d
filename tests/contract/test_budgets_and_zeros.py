"""Laws 1 and 2: exact budgets; exact zeros and clean state outside the topology; survivors untouched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from zoo import (
    ACROSS_LAYERS,
    DENSITY,
    FRESH,
    OPTIMIZERS,
    PRUNING,
    STEPS,
    THREE,
    VARIANTS,
    entries,
    plain,
    sparse,
    tiny_model,
    train,
    weights_due,
)

import regrow
from regrow.core.topology import Topology
from regrow.sparsifier import Sparsifier

DECAY = {"weight_decay": 0.1}


class Watch:
    """Checks the laws at every commit and after every step."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier, kind: str, redistributes: bool = False
    ) -> None:
        self.redistributes = redistributes
        self.parameters = dict(model.named_parameters())
        self.optimizer, self.sparsifier, self.kind = optimizer, sparsifier, kind
        self.first = sparsifier.topology
        self.updates = 0
        self._commit = sparsifier.backend.commit
        sparsifier.backend.commit = self.commit  # type: ignore[method-assign]
        optimizer.register_step_post_hook(lambda *_: self.after_step())

    def commit(self, new: Topology, **options: Any) -> Mapping[str, torch.Tensor]:
        old, before = self.sparsifier.topology, self._values()
        born = {name: at.clone() for name, at in self._commit(new, **options).items()}
        assert Topology(born, new.shapes) == new - old
        self.updates += 1
        assert self.sparsifier.topology == new
        self._check_budget(old, new)
        after = self._values()
        for name in new:
            grown, survived = (new - old)[name], (new & old)[name]
            for key, value in after[name].items():
                assert torch.equal(value[survived], before[name][key][survived]), (name, key)
                assert (value[grown] == self._fresh(key)).all(), (name, key)
        return born

    def after_step(self) -> None:
        for name, values in self._values().items():
            outside = ~self.sparsifier.topology[name]
            for key, value in values.items():
                assert (value[outside] == self._fresh(key)).all(), (name, key)

    def _values(self) -> dict[str, dict[str, torch.Tensor]]:
        """Weight, gradient and state of every site, copied."""
        found = {}
        for name in self.sparsifier.topology:
            parameter = self.parameters[name]
            state = {"weight": parameter.detach(), **entries(self.optimizer, parameter)}
            found[name] = {key: value.clone() for key, value in state.items()}
        return found

    def _fresh(self, key: str) -> float:
        return FRESH.get((self.kind, key), 0.0)

    def _check_budget(self, old: Topology, new: Topology) -> None:
        assert new.nnz == weights_due(self.sparsifier, self.first.nnz)
        assert (old - new).nnz - (new - old).nnz == old.nnz - new.nnz >= 0
        if not self.redistributes:
            assert {n: new.nnz_of(n) for n in new} == {n: self.first.nnz_of(n) for n in new}


def run(method: str, kind: str, variant: str = "plain", **options: Any) -> tuple[Watch, Sparsifier]:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters(), **options)
    sparsifier = sparse(model, optimizer, method)
    watch = Watch(model, optimizer, sparsifier, kind, method in ACROSS_LAYERS)
    train(model, optimizer, range(1, STEPS + 1), VARIANTS[variant]())
    assert sparsifier.step == STEPS
    every = sparsifier.method.every
    assert watch.updates == (every.updates(STEPS) if every else 0)
    assert sparsifier.explored.nnz >= (sparsifier.topology | watch.first).nnz
    return watch, sparsifier


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_every_method(method: str, kind: str) -> None:
    run(method, kind, **DECAY if kind != "rprop" else {})


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer(kind: str) -> None:
    run("rigl-itop", kind)


@pytest.mark.parametrize("kind", [k for k in OPTIMIZERS if k != "rprop"])
def test_every_optimizer_with_weight_decay(kind: str) -> None:
    run("rigl-itop", kind, **DECAY)


@pytest.mark.parametrize("kind", ["sgd-momentum", "sgd-fused", "adamw", "adam-fused", "adagrad-fused"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs"])
def test_every_way_to_write_a_step(method: str, variant: str, kind: str) -> None:
    run(method, kind, variant)


@pytest.mark.full
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_the_full_product(method: str, kind: str, variant: str) -> None:
    run(method, kind, variant, **DECAY if kind != "rprop" else {})


def test_every_method_but_static_moves_and_differs_from_every_other() -> None:
    ends = {method: run(method, "sgd-momentum") for method in regrow.METHODS}
    still = [m for m, (watch, sparsifier) in ends.items() if sparsifier.topology == watch.first]
    assert still == ["static"]
    digests = {method: sparsifier.topology.digest() for method, (_, sparsifier) in ends.items()}
    assert len(set(digests.values())) == len(digests), digests


def test_snfs_moves_weights_between_layers() -> None:
    watch, sparsifier = run("snfs", "sgd-momentum")
    assert sparsifier.topology.densities() != watch.first.densities()


@pytest.mark.parametrize("method", PRUNING)
def test_pruning_ends_at_the_density_of_the_run(method: str) -> None:
    watch, sparsifier = run(method, "sgd-momentum")
    assert watch.first.nnz == round(watch.first.numel * regrow.METHODS[method]().initial)  # type: ignore[attr-defined]
    assert sparsifier.topology.nnz == round(watch.first.numel * DENSITY)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw-fused", "adagrad"])
def test_learning_rate_schedulers_may_come_before_or_after(kind: str, when: str) -> None:
    """A warm-up from 0, created first: the rate is 0 when sparsify looks at the optimizer."""
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    schedule = partial(torch.optim.lr_scheduler.LambdaLR, optimizer, lambda step: step / STEPS)
    scheduler = schedule() if when == "before" else None
    sparsifier = sparse(model, optimizer, "rigl-itop")
    scheduler = scheduler or schedule()
    watch = Watch(model, optimizer, sparsifier, kind)
    for step in range(1, STEPS + 1):
        plain(model, optimizer, step)
        scheduler.step()
    assert watch.updates == STEPS // 3


@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw-fused"])
def test_a_trained_optimizer_is_cleaned_when_the_model_becomes_sparse(kind: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    train(model, optimizer, range(3))
    from zoo import loss_at

    loss_at(model, 3).backward()  # a dense gradient waits
    sparsifier = sparse(model, optimizer, topology="magnitude")
    for name, parameter in model.named_parameters():
        if name in sparsifier.topology:
            outside = ~sparsifier.topology[name]
            assert parameter.grad is not None
            for value in (parameter, parameter.grad, *entries(optimizer, parameter).values()):
                assert (value[outside] == 0).all()
                assert (value[~outside] != 0).any()


def test_a_weight_dropped_and_regrown_keeps_its_value_unless_reborn() -> None:
    model = tiny_model().to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer)
    train(model, optimizer, range(1, 3))
    name, parameter = "0.weight", model[0].weight
    before = {key: value.clone() for key, value in entries(optimizer, parameter).items()}
    active = sparsifier.topology.index(name)
    sparsifier.backend.commit(sparsifier.topology, reborn={name: active[:2]})
    for key, value in entries(optimizer, parameter).items():
        assert (value.reshape(-1)[active[:2]] == 0).all()
        assert torch.equal(value.reshape(-1)[active[2:]], before[key].reshape(-1)[active[2:]])
    assert (parameter.reshape(-1)[active[:2]] == 0).all()
    assert (parameter.reshape(-1)[active[2:]] != 0).all()
