"""The backend's own laws, without a sparsifier: idempotent, exact, and good for inference."""

from __future__ import annotations

import pytest
import torch
from zoo import OPTIMIZERS, entries, loss_at, plain, tiny_model

import regrow
from regrow.core.patterns import UNSTRUCTURED
from regrow.execution import native
from regrow.execution.masked import MaskedBackend
from regrow.execution.parts import survey


def random_topology(seed: int) -> regrow.Topology:
    draw = torch.Generator().manual_seed(seed)
    parts = [part for verdict in survey(tiny_model()) for part in verdict.parts]
    return regrow.Topology.from_masks({p.name: torch.rand(p.shape, generator=draw) < 0.4 for p in parts})


def attached(kind: str = "adamw") -> tuple[MaskedBackend, torch.nn.Module, torch.optim.Optimizer]:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    backend = MaskedBackend()
    backend.attach(model, random_topology(0), optimizer)
    for step in range(3):
        plain(model, optimizer, step)
    return backend, model, optimizer


def snapshot(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    found = [p.detach().clone() for p in model.parameters()]
    return found + [value.clone() for p in model.parameters() for value in entries(optimizer, p).values()]


@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw", "rprop", "adagrad"])
def test_commit_and_project_are_idempotent(kind: str) -> None:
    backend, model, optimizer = attached(kind)
    once = None
    for _ in range(2):
        backend.commit(random_topology(1))
        backend.project()
        now = snapshot(model, optimizer)
        assert once is None or all(map(torch.equal, once, now))
        once = now


def test_sites_show_exact_values() -> None:
    backend, model, _ = attached()
    loss_at(model, 9).backward()
    backend.expect(frozenset({"grad"}), {})
    for name, site in backend.sites(UNSTRUCTURED).items():
        mask, weight = backend.topology[name], model.get_parameter(name)
        assert weight.grad is not None
        assert torch.equal(site.weight, weight.detach()[mask])
        assert torch.equal(site.signal("grad"), weight.grad[mask])
        assert site.target == random_topology(0).nnz_of(name)
        assert (site.moment, site.candidates, site.explored) == (None, None, None)


@pytest.mark.skipif(native.isa() == "reference", reason="plain torch multiplies by zero, and NaN stays NaN")
def test_outside_the_topology_nothing_stays_nan() -> None:
    backend, model, optimizer = attached()
    parts = {part.name: part.parameter for verdict in survey(model) for part in verdict.parts}
    for parameter in parts.values():
        parameter.grad = torch.full_like(parameter, torch.nan)
    backend.mask_grads()
    optimizer.step()
    for name, mask in backend.topology.items():
        assert (parts[name].isnan() == mask).all()
    backend.commit(random_topology(1))
    for name, mask in backend.topology.items():
        stayed = mask & random_topology(0)[name]
        values = [parts[name], *entries(optimizer, parts[name]).values()]
        assert all((value.isnan() <= stayed).all() for value in values)
        assert not parts[name][~mask].any()


@pytest.mark.parametrize("frozen", [False, True])
def test_inference_needs_no_optimizer(frozen: bool) -> None:
    model = tiny_model().requires_grad_(not frozen).eval()
    backend = MaskedBackend()
    backend.attach(model, random_topology(0))
    for name, mask in random_topology(0).items():
        assert ((model.get_parameter(name) != 0) == mask).all()
    backend.detach()


def test_a_topology_the_model_has_no_weights_for() -> None:
    with pytest.raises(regrow.RegrowError, match=r"'9\.weight', the model has no such weight"):
        MaskedBackend().attach(tiny_model(), regrow.Topology.full({"9.weight": (2, 2)}))
