"""On a GPU, where there is one: the same topologies as on the CPU, also for a model that moves there afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import OPTIMIZERS, STEPS, batch, entries, sparse, tiny_model

import regrow

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def trained(method: str, kind: str, device: str, moved: str = "before") -> tuple[nn.Module, regrow.Sparsifier]:
    model = tiny_model().double()
    if moved == "before":
        model = model.to(device)
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    model.to(device)
    for step in range(1, STEPS + 1):
        inputs, targets = (tensor.to(device) for tensor in batch(step))
        nn.functional.cross_entropy(model(inputs.double()), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, mask in sparsifier.topology.items():
        parameter = model.get_parameter(name)
        assert mask.device == parameter.device
        assert all((v[~mask] == 0).all() for v in (parameter, *entries(optimizer, parameter).values()))
    return model, sparsifier


@pytest.mark.parametrize("moved", ["before", "after"])
@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw-fused"])
@pytest.mark.parametrize("method", regrow.METHODS)
def test_the_device_decides_nothing(method: str, kind: str, moved: str) -> None:
    _, here = trained(method, kind, "cpu")
    _, there = trained(method, kind, "cuda", moved)
    assert there.topology == here.topology
    assert there.exploration_rate == here.exploration_rate


@pytest.mark.parametrize("kind", ["sgd-fused", "adamw"])
def test_grad_scaler(kind: str) -> None:
    model = tiny_model().cuda()
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, "snfs")
    scaler = torch.amp.GradScaler("cuda", growth_interval=3)
    for step in range(1, STEPS + 1):
        for fault in (torch.inf, 1.0) if step == 6 else (1.0,):
            inputs, targets = (tensor.cuda() for tensor in batch(step))
            with torch.autocast("cuda", torch.float16):
                loss = nn.functional.cross_entropy(model(inputs), targets)
            scaler.scale(loss * fault).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert sparsifier.step == STEPS
    for name, mask in sparsifier.topology.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
