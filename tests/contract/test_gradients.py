"""Law 8: gradients are masked as they accumulate; RigL's update takes the place of the step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import EVERY, OPTIMIZERS, STEPS, loss_at, plain, sparse, tiny_model, train

import regrow


@pytest.mark.parametrize("method", regrow.METHODS)
def test_clipping_sees_masked_gradients_on_every_step(method: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    weights = dict(model.named_parameters())
    for step in range(1, STEPS + 1):
        for part in range(2):
            loss_at(model, 10 * step + part).backward()
            for name, mask in sparsifier.topology.items():
                grad = weights[name].grad
                assert grad is not None
                assert (grad[~mask] == 0).all()
                assert (grad[mask] != 0).any()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        inside = [p.grad[sparsifier.topology[n]] if n in sparsifier.topology else p.grad for n, p in weights.items()]  # type: ignore[index]
        torch.testing.assert_close(norm, torch.stack([g.norm() for g in inside if g is not None]).norm())
        optimizer.step()
        for name, mask in sparsifier.topology.items():  # after an update, by the new topology
            grad = weights[name].grad
            assert grad is None or (grad[~mask] == 0).all()
        optimizer.zero_grad()


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs", "set"])
def test_gradients_by_hand_and_mask_grads(method: str) -> None:
    """`autograd.grad` passes the hooks by; with mask_grads the run is the same as with backward()."""
    ends = []
    for by_hand in (False, True):
        model = tiny_model()
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        sparsifier = sparse(model, optimizer, method)
        for step in range(1, STEPS + 1):
            if by_hand:
                grads = torch.autograd.grad(loss_at(model, step), list(model.parameters()))
                for parameter, grad in zip(model.parameters(), grads, strict=True):
                    parameter.grad = grad
            else:
                loss_at(model, step).backward()
            sparsifier.mask_grads()  # once more than needed does no harm
            for name, parameter in model.named_parameters():
                if name in sparsifier.topology:
                    assert parameter.grad is not None
                    assert (parameter.grad[~sparsifier.topology[name]] == 0).all()
            optimizer.step()
            optimizer.zero_grad()
        ends.append((sparsifier.topology, model[4].weight.detach()))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


def test_mask_grads_without_gradients() -> None:
    model = tiny_model()
    sparse(model, OPTIMIZERS["sgd"](model.parameters())).mask_grads()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw", "adamw-fused"])
def test_rigls_update_replaces_the_step(kind: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters(), weight_decay=0.1)
    sparsifier = sparse(model, optimizer, "rigl")
    train(model, optimizer, range(1, EVERY))
    old = sparsifier.topology
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss_at(model, EVERY).backward()
    optimizer.step()
    new = sparsifier.topology
    assert new != old
    assert sparsifier.step == EVERY
    for name, parameter in model.named_parameters():
        assert parameter.grad is None
        stayed = (old & new)[name] if name in old else torch.ones_like(parameter, dtype=torch.bool)
        assert torch.equal(parameter[stayed], before[name][stayed]), name
    plain(model, optimizer, EVERY + 1)  # and the next step moves everything again
    assert all(bool((p != before[n]).any()) for n, p in model.named_parameters())


def test_itops_update_follows_the_step() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    sparsifier = sparse(model, optimizer, "rigl-itop")
    train(model, optimizer, range(1, EVERY))
    old, before = sparsifier.topology, {name: p.detach().clone() for name, p in model.named_parameters()}
    loss_at(model, EVERY).backward()
    optimizer.step()
    assert sparsifier.topology != old
    assert (model[6].bias != before["6.bias"]).all()
    stayed = (old & sparsifier.topology)["6.weight"]
    assert (model[6].weight[stayed] != before["6.weight"][stayed]).any()


def test_a_step_without_a_backward_pass_changes_nothing() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "rigl-itop")
    topology, before = sparsifier.topology, model[4].weight.detach().clone()
    for _ in range(EVERY):
        optimizer.step()
    assert sparsifier.topology == topology
    assert torch.equal(model[4].weight, before)


def test_create_graph_and_retained_graphs() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "rigl-itop")
    for step in range(1, STEPS + 1):
        loss = loss_at(model, step)
        first = torch.autograd.grad(loss, model[4].weight, create_graph=True)[0]  # a gradient penalty
        (loss + 1e-3 * first.square().sum()).backward(retain_graph=True)
        optimizer.step()
        optimizer.zero_grad()
    for name, mask in sparsifier.topology.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
