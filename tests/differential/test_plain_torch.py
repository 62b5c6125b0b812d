"""The sparsifier against the same training written out in plain torch, update for update."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

import regrow
from regrow.core import positions, rng
from regrow.core.topology import Topology

STEPS, EVERY, SEED = 20, 4, 5
SITES = ("0.weight", "2.weight", "4.weight")
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 5)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return torch.randn(12, 16, generator=draw, dtype=torch.float64), torch.randint(5, (12,), generator=draw)


def loss_of(model: nn.Module, weights: dict[str, Tensor], step: int) -> Tensor:
    inputs, targets = batch(step)
    return nn.functional.cross_entropy(functional_call(model, weights, (inputs,)), targets)


def ours(method: str, kind: str) -> tuple[nn.Module, regrow.Sparsifier, list[Topology]]:
    model = network()
    optimizer = OPTIMIZERS[kind](model.parameters())
    every = None if method == "static" else EVERY
    sparsifier = regrow.sparsify(
        model, optimizer, method=method, density=0.25, total_steps=STEPS, every=every, seed=SEED, topology="uniform"
    )
    topologies = [sparsifier.topology]
    for step in range(1, STEPS + 1):
        loss_of(model, dict(model.named_parameters()), step).backward()
        optimizer.step()
        optimizer.zero_grad()
        topologies.append(sparsifier.topology)
    return model, sparsifier, topologies


def by_hand(
    first: Topology, kind: str, update: Callable[[int, str, Tensor, Tensor, Tensor], Tensor] | None, replaces: bool
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """Masked training with dense gradients at hand: an update makes a new m from (step, name, w, m, g)."""
    model = network()
    weights = dict(model.named_parameters())
    masks = {name: first[name].double() for name in SITES}
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    optimizer, history = OPTIMIZERS[kind](model.parameters()), [masks]
    for step in range(1, STEPS + 1):
        grads = torch.autograd.grad(loss_of(model, weights, step), list(weights.values()))
        dense = dict(zip(weights, grads, strict=True))
        due = update is not None and step % EVERY == 0 and (not replaces or step <= 0.75 * STEPS)
        if not (due and replaces):
            for name, weight in weights.items():
                weight.grad = dense[name] * masks[name] if name in masks else dense[name]
            optimizer.step()
        if due and update is not None:
            new = {n: update(step, n, weights[n].detach(), m, dense[n]).view_as(m) for n, m in masks.items()}
            with torch.no_grad():
                for name, mask in new.items():
                    clean(weights[name], optimizer, masks[name] * mask)
            masks = new
        history.append(masks)
    return model, history


def clean(weight: nn.Parameter, optimizer: Optimizer, stays: Tensor) -> None:
    for value in (weight, *optimizer.state.get(weight, {}).values()):
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value.mul_(stays)


def cosine(start: float, stop: float, t: float) -> float:
    return stop + (start - stop) * (1 + math.cos(math.pi * t)) / 2


def without_smallest(weight: Tensor, mask: Tensor, k: int) -> list[int]:
    active = mask.reshape(-1).nonzero().squeeze(1).tolist()
    flat = weight.reshape(-1).tolist()
    return sorted(sorted(active, key=lambda i: (-abs(flat[i]), i))[: len(active) - k])


def marked(size: int, chosen: list[int]) -> Tensor:
    mask = torch.zeros(size, dtype=torch.float64)
    mask[chosen] = 1.0
    return mask


def rigl(step: int, name: str, weight: Tensor, mask: Tensor, grad: Tensor) -> Tensor:
    """Evci et al., algorithm 1: drop the smallest, grow the largest |gradient| of what is then inactive."""
    k = int(cosine(0.3, 0.0, step / STEPS / 0.75) * mask.sum())
    return grown_by_gradient(weight, mask, grad, k)


def rigl_itop(step: int, name: str, weight: Tensor, mask: Tensor, grad: Tensor) -> Tensor:
    k = math.ceil(cosine(0.5, 0.005, step / STEPS) * int(mask.sum()))
    return grown_by_gradient(weight, mask, grad, k)


def grown_by_gradient(weight: Tensor, mask: Tensor, grad: Tensor, k: int) -> Tensor:
    kept = without_smallest(weight, mask, k)
    flat = grad.reshape(-1).tolist()
    inactive = [i for i in range(mask.numel()) if i not in set(kept)]
    return marked(mask.numel(), kept + sorted(inactive, key=lambda i: (-abs(flat[i]), i))[:k])


def set_(step: int, name: str, weight: Tensor, mask: Tensor, grad: Tensor) -> Tensor:
    """The random positions are the library's own stream; everything else is written out."""
    k = int(0.3 * mask.sum())
    kept = without_smallest(weight, mask, k)
    grown = positions.sample_absent(torch.tensor(kept), mask.numel(), k, rng.generator(SEED, step, name))
    return marked(mask.numel(), kept + grown.tolist())


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(
    ("method", "update", "replaces"),
    [("static", None, False), ("rigl", rigl, True), ("rigl-itop", rigl_itop, False), ("set", set_, False)],
)
def test_step_for_step(
    method: str, update: Callable[[int, str, Tensor, Tensor, Tensor], Tensor] | None, replaces: bool, kind: str
) -> None:
    model, _, topologies = ours(method, kind)
    twin, history = by_hand(topologies[0], kind, update, replaces)
    for step, (topology, masks) in enumerate(zip(topologies, history, strict=True)):
        for name in SITES:
            assert torch.equal(topology[name], masks[name] == 1), (step, name)
    for ours_, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_static_training_is_training_the_surviving_weights_alone(kind: str) -> None:
    """A third way: parameters that hold only what exists, scattered into dense weights in each forward pass."""
    model, sparsifier, topologies = ours("static", kind)
    twin = network()
    index = {name: topologies[0].index(name).long() for name in SITES}
    compact = {
        name: nn.Parameter(p.detach().reshape(-1)[index[name]].clone() if name in index else p.detach().clone())
        for name, p in twin.named_parameters()
    }
    optimizer = OPTIMIZERS[kind](compact.values())

    def dense() -> dict[str, Tensor]:
        whole = dict(compact)
        for name, at in index.items():
            shape = sparsifier.topology.shape(name)
            whole[name] = torch.zeros(math.prod(shape), dtype=torch.float64).scatter(0, at, compact[name]).view(shape)
        return whole

    for step in range(1, STEPS + 1):
        loss_of(twin, dense(), step).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in dense().items():
        torch.testing.assert_close(model.get_parameter(name).detach(), weight.detach(), rtol=1e-10, atol=1e-13)
