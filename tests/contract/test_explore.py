"""explore(fraction): one extra update, at the next successful step that supplies what the method needs."""

from __future__ import annotations

import pytest
import torch
from zoo import GROWING, OPTIMIZERS, loss_at, plain, scaled, sparse, tiny_model, train

from regrow import RegrowError

LONG = {"total_steps": 1000, "every": 500}


@pytest.mark.parametrize("method", GROWING)
def test_once_and_by_its_fraction(method: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method, **LONG)
    train(model, optimizer, range(1, 3))
    first = sparsifier.topology
    assert sparsifier.last_update is None
    sparsifier.explore(0.8)
    assert sparsifier.topology == first  # not yet
    plain(model, optimizer, 3)
    second = sparsifier.topology
    assert sparsifier.last_update == {"step": 3, "grown": (second - first).nnz, "nnz": first.nnz}
    assert (second - first).nnz > 0
    train(model, optimizer, range(4, 8))
    assert sparsifier.topology == second
    assert sparsifier.step == 7


def test_everything_may_be_replaced() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "set-itop", **LONG)
    first = sparsifier.topology
    sparsifier.explore(1.0)
    plain(model, optimizer, 1)
    assert 0 < first.overlap(sparsifier.topology) < 0.4  # a random third again


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_impossible_fractions(fraction: float) -> None:
    model = tiny_model()
    sparsifier = sparse(model, OPTIMIZERS["sgd"](model.parameters()))
    with pytest.raises(RegrowError, match=r"explore.*\(0, 1\]"):
        sparsifier.explore(fraction)


def test_static_never_explores() -> None:
    model = tiny_model()
    sparsifier = sparse(model, OPTIMIZERS["sgd"](model.parameters()), "static")
    with pytest.raises(RegrowError, match=r"explore\(0.5\): static never updates; .* evolve=False"):
        sparsifier.explore(0.5)


@pytest.mark.parametrize("method", ["rigl", "rigl-itop"])
def test_armed_after_the_backward_pass_it_waits_and_costs_no_step(method: str) -> None:
    """The gradient of this step is sparse already: the step is taken, the exploration is the next one's."""
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method, **LONG)
    first, before = sparsifier.topology, model[6].bias.detach().clone()
    loss_at(model, 1).backward()
    sparsifier.explore(0.5)
    optimizer.step()
    optimizer.zero_grad()
    assert sparsifier.topology == first
    assert (model[6].bias != before).all()
    plain(model, optimizer, 2)
    assert sparsifier.topology != first


@pytest.mark.parametrize("kind", ["sgd-momentum", "sgd-fused"])
@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "set", "snfs"])
def test_a_skipped_step_does_not_use_it_up(method: str, kind: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, method, **LONG)
    step_of = scaled()
    train(model, optimizer, range(1, 6), step_of)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append((sparsifier.step, sparsifier.last_update)))
    sparsifier.explore(0.5)
    step_of(model, optimizer, 6)  # its first attempt is inf
    assert sparsifier.last_update is not None
    assert sparsifier.last_update["step"] == sparsifier.step == 6
    assert seen[-1][0] == 6
    for name, mask in sparsifier.topology.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert torch.isfinite(model.get_parameter(name)).all()
