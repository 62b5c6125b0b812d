"""Laws 1, 2, 4, 7 and 8 on the sparse backend, as the masked one keeps them."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from backends import BACKENDS, Run, fresh, held, start
from torch import Tensor, nn
from zoo import (
    ACROSS_LAYERS,
    EVERY,
    GROWING,
    OPTIMIZERS,
    STEPS,
    THREE,
    VARIANTS,
    batch,
    loss_at,
    plain,
    sparse,
    tiny_model,
    train,
    weights_due,
)

import regrow
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.execution.ops import LISTENERS

DECAY = {"weight_decay": 0.1}


class Watch:
    """Checks budgets, survivors and births at every commit."""

    def __init__(self, run: Run, redistributes: bool) -> None:
        self.run, self.redistributes, self.updates = run, redistributes, 0
        self.first = run[2].topology
        self._commit = run[2].backend.commit
        run[2].backend.commit = self.commit  # type: ignore[method-assign]

    def commit(self, new: Topology, **options: Any) -> Mapping[str, Tensor]:
        old, before = self.run[2].topology, {name: held(self.run, name) for name in new}
        born = {name: at.clone() for name, at in self._commit(new, **options).items()}
        assert Topology(born, new.shapes) == new - old
        self.updates += 1
        assert self.run[2].topology == new
        assert new.nnz == weights_due(self.run[2], self.first.nnz)
        if not self.redistributes:
            assert [new.nnz_of(n) for n in new] == [self.first.nnz_of(n) for n in new]
        for name in new:
            grown, survived, after = (new - old)[name], (new & old)[name], held(self.run, name)
            assert after.keys() == before[name].keys()
            for key, value in after.items():
                assert torch.equal(value[survived], before[name][key][survived]), (name, key)
                assert (value[grown] == fresh(self.run[1], key)).all(), (name, key)
        return born


def go(method: str, kind: str, variant: str = "plain", **options: Any) -> Watch:
    watch = Watch(start("sparse", method, kind, options=options), method in ACROSS_LAYERS)
    model, optimizer, sparsifier = watch.run
    weights = [model.get_parameter(name) for name in sparsifier.topology]
    train(model, optimizer, range(1, STEPS + 1), VARIANTS[variant]())
    every = sparsifier.method.every
    assert watch.updates == (every.updates(STEPS) if every else 0)
    for weight, name in zip(weights, sparsifier.topology, strict=True):
        assert model.get_parameter(name) is weight
        assert weight.shape == (sparsifier.topology.nnz_of(name),)
        assert all(v.numel() in (1, weight.numel()) for v in optimizer.state[weight].values() if v is not None)
    return watch


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_every_method(method: str, kind: str) -> None:
    go(method, kind, **DECAY if kind != "rprop" else {})


@pytest.mark.parametrize("method", regrow.METHODS)
def test_every_method_under_autocast(method: str) -> None:
    """bfloat16 activations; weights and optimizer state stay float32."""
    watch = go(method, "adamw-fused", "autocast")
    assert {parameter.dtype for parameter in watch.run[0].parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_every_optimizer(kind: str) -> None:
    go("rigl-itop", kind)


@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw-fused"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs"])
def test_every_way_to_write_a_step(method: str, variant: str, kind: str) -> None:
    go(method, kind, variant)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "autocast"])
@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs", "momentum-itop", "taylor-itop"])
def test_the_masked_backend_decides_the_same(method: str, variant: str) -> None:
    ends = []
    torch.set_default_dtype(torch.float64)
    try:
        for backend in BACKENDS:
            model, optimizer, sparsifier = start(backend, method)
            model.insert(0, Double())
            train(model, optimizer, range(1, STEPS + 1), VARIANTS[variant]())
            ends.append(sparsifier.topology)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ends[0] == ends[1]


class Double(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.double()


@pytest.mark.parametrize("kind", THREE)
def test_state_from_before_is_taken_over_and_given_back(kind: str) -> None:
    """An optimizer that has trained: what survives keeps its state; finalize gives dense state, fresh elsewhere."""
    ends = []
    for backend in BACKENDS:
        run = trained(backend, kind)
        model, optimizer, sparsifier = run
        assert held(run, "4.weight").keys() > {"weight"}
        sparsifier.finalize()
        assert type(model[4]) is nn.Linear
        ends.append({name: held(run, name) for name in sparsifier.topology})
        plain(model, optimizer, 30)
        assert model[4].weight.shape == (24, 96)
    for name, masked in ends[0].items():
        for key, value in masked.items():
            torch.testing.assert_close(ends[1][name][key], value, rtol=1e-4, atol=1e-6)


def trained(backend: str, kind: str) -> Run:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    train(model, optimizer, range(1, 4))
    sparsifier = sparse(model, optimizer, "set", topology="magnitude", exclude=["0"], backend=backend)
    train(model, optimizer, range(4, 4 + EVERY))
    return model, optimizer, sparsifier


@pytest.mark.parametrize("method", regrow.METHODS)
def test_dense_gradients_are_kept_on_update_steps_only(method: str) -> None:
    model, optimizer, sparsifier = start("sparse", method)
    always = "dense_moment" in sparsifier.method.needs
    for step in range(1, STEPS + 1):
        loss_at(model, step).backward()
        due = bool(sparsifier.method.every and sparsifier.method.every.due(step, STEPS))
        expected = always or (due and "dense_grad" in sparsifier.method.needs)
        for weight in sparsifier.backend._weights.values():  # type: ignore[attr-defined]
            assert weight.witness.empty != expected
        optimizer.step()
        for weight in sparsifier.backend._weights.values():  # type: ignore[attr-defined]
            assert weight.witness.empty
        optimizer.zero_grad()


def test_what_a_witness_keeps_is_no_larger_than_the_dense_gradient() -> None:
    model, _, sparsifier = start("sparse", "rigl-itop")
    sparsifier.explore(0.5)
    witness = sparsifier.backend._weights["4.weight"].witness  # type: ignore[attr-defined]
    for part in range(40):
        loss_at(model, part).backward()
        kept = [t.numel() for pair in witness._pairs for t in pair]
        assert sum(kept) + (0 if witness._sum is None else witness._sum.numel()) <= 24 * 96


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs", "set"])
def test_gradients_by_hand(method: str) -> None:
    """`autograd.grad` in place of backward(): the run is the same."""
    ends = []
    for by_hand in (False, True):
        model, optimizer, sparsifier = start("sparse", method)
        for step in range(1, STEPS + 1):
            if by_hand:
                grads = torch.autograd.grad(loss_at(model, step), list(model.parameters()))
                for parameter, grad in zip(model.parameters(), grads, strict=True):
                    parameter.grad = grad
                sparsifier.mask_grads()
            else:
                loss_at(model, step).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append((sparsifier.topology, model.state_dict()["4.weight"]))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


def test_a_layer_used_twice_in_one_pass() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 12)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.tanh(self.layer(inputs)))  # type: ignore[no-any-return]

    ends = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        model = Twice().double()
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        sparsifier = regrow.sparsify(
            model, optimizer, method="rigl-itop", density=0.3, total_steps=STEPS, every=3, backend=backend
        )
        for step in range(STEPS):
            inputs = torch.randn(4, 12, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            model(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(sparsifier.topology)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("method", ["snfs", "rigl-itop"])
def test_losses_kept_by_the_user_do_not_hinder_a_changing_size(method: str) -> None:
    """A kept loss keeps the node that accumulates gradients of the old shape."""
    model, optimizer, _ = start("sparse", method)
    losses, sizes = [], set()
    for step in range(1, STEPS + 1):
        losses.append(loss_at(model, step))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
        sizes.add(model[6].weight.numel())
    assert len(sizes) > 1 or method != "snfs"
    assert sum(sizes) > 0


@pytest.mark.parametrize("method", regrow.METHODS)
def test_the_global_generator_neither_matters_nor_moves(method: str) -> None:
    ends = []
    for seed in (1, 2):
        model, optimizer, sparsifier = start("sparse", method)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train(model, optimizer, range(1, STEPS + 1))
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(sparsifier.topology)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("method", GROWING)
def test_explore(method: str) -> None:
    model, optimizer, sparsifier = start("sparse", method, total_steps=1000, every=500)
    train(model, optimizer, range(1, 3))
    first = sparsifier.topology
    sparsifier.explore(0.8)
    plain(model, optimizer, 3)
    assert sparsifier.last_update is not None
    assert sparsifier.last_update["grown"] == (sparsifier.topology - first).nnz > 0
    train(model, optimizer, range(4, 8))
    assert sparsifier.last_update["step"] == 3


def test_sequences_and_other_number_types() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        model = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 6)).to(dtype)
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        sparsifier = regrow.sparsify(
            model, optimizer, method="rigl-itop", density=0.3, total_steps=STEPS, every=3, backend="sparse"
        )
        first = sparsifier.topology
        for _ in range(STEPS):
            model(torch.randn(3, 5, 8, dtype=dtype)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert sparsifier.topology != first
        assert {p.dtype for p in model.parameters()} == {dtype}


def test_a_model_that_changes_its_number_type_after_sparsify() -> None:
    model, optimizer, sparsifier = start("sparse")
    first = sparsifier.topology
    model.double().insert(0, Double())
    for step in range(1, STEPS + 1):
        inputs, targets = batch(step)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.topology != first


def test_density_one_is_dense_training() -> None:
    ends = []
    for backend in BACKENDS:
        model, optimizer, _ = start(backend, density=1.0, exclude=["0"])
        train(model, optimizer, range(1, STEPS + 1))
        ends.append(model.state_dict()["4.weight"])
    assert torch.equal(*ends)


def test_two_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(RegrowError, match="backend='sparse' trains in one process, here are 2; use 'masked'"):
        start("sparse")


def test_a_forgotten_run_listens_no_more() -> None:
    run: Any = start("sparse", "snfs")
    train(run[0], run[1], range(1, 3))
    assert LISTENERS
    del run
    gc.collect()
    assert not LISTENERS
