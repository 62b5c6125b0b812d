"""What the contract tests run: every optimizer, the ways people write a training step, a problem of milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer

import regrow
from regrow.methods.gmp import GMP
from regrow.methods.granet import GraNet
from regrow.sparsifier import Sparsifier

STEPS, EVERY, DENSITY = 12, 3, 0.33

PRUNING = ("gmp", "granet")
"""Methods that come down to their density by a schedule."""
GROWING = [method for method in regrow.METHODS if method not in ("static", "gmp")]
ACROSS_LAYERS = ("snfs", *PRUNING)
"""Methods that count weights over the whole network: a layer's number is not kept."""

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(optim.SGD, lr=0.05),
    "sgd-momentum": partial(optim.SGD, lr=0.05, momentum=0.9),
    "sgd-nesterov": partial(optim.SGD, lr=0.05, momentum=0.9, nesterov=True, foreach=False),
    "sgd-foreach": partial(optim.SGD, lr=0.05, momentum=0.9, foreach=True),
    "sgd-fused": partial(optim.SGD, lr=0.05, momentum=0.9, fused=True),
    "adam": partial(optim.Adam, lr=0.01),
    "adam-amsgrad": partial(optim.Adam, lr=0.01, amsgrad=True),
    "adam-fused": partial(optim.Adam, lr=0.01, fused=True),
    "adamw": partial(optim.AdamW, lr=0.01),
    "adamw-foreach": partial(optim.AdamW, lr=0.01, foreach=True),
    "adamw-fused": partial(optim.AdamW, lr=0.01, fused=True),
    "rmsprop": partial(optim.RMSprop, lr=0.005),
    "rmsprop-centered": partial(optim.RMSprop, lr=0.005, centered=True, momentum=0.9),
    "adagrad": partial(optim.Adagrad, lr=0.02, initial_accumulator_value=0.1),
    "adagrad-fused": partial(optim.Adagrad, lr=0.02, initial_accumulator_value=0.1, fused=True),
    "adadelta": partial(optim.Adadelta, lr=0.5),
    "adamax": partial(optim.Adamax, lr=0.01),
    "nadam": partial(optim.NAdam, lr=0.01),
    "radam": partial(optim.RAdam, lr=0.01),
    "rprop": partial(optim.Rprop, lr=0.01),
    "asgd": partial(optim.ASGD, lr=0.05),
}

FRESH = {
    ("adagrad", "sum"): 0.1,
    ("adagrad-fused", "sum"): 0.1,
    ("adamax", "exp_inf"): 1e-8,  # eps, once it has seen a zero gradient
    ("rprop", "step_size"): 0.01,
}
"""What a fresh optimizer holds where it is not zero, from torch's documentation: (optimizer, state entry) -> value."""

THREE = ("sgd-momentum", "adamw-fused", "rprop")  # no state shared between their kinds


def tiny_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 24),
        nn.ReLU(),
        nn.Linear(24, 4),
    )


def batch(step: int, size: int = 8) -> tuple[Tensor, Tensor]:
    """The data of a step, a function of the step alone."""
    draw = torch.Generator().manual_seed(step)
    return torch.randn(size, 1, 6, 6, generator=draw), torch.randint(4, (size,), generator=draw)


def loss_at(model: nn.Module, step: int) -> Tensor:
    inputs, targets = batch(step)
    return nn.functional.cross_entropy(model(inputs), targets)


def sparse(
    model: nn.Module, optimizer: Optimizer, method: str = "rigl-itop", *, total_steps: int = STEPS, **changes: Any
) -> Sparsifier:
    """`sparsify` for the tiny problem: a third of each layer, an update each third step."""
    every = None if method == "static" else EVERY
    setup = {"density": DENSITY, "every": every, "seed": 1, "topology": "uniform", "total_steps": total_steps} | changes
    return regrow.sparsify(model, optimizer, method=method, **setup)


def weights_due(sparsifier: Sparsifier, first: int) -> int:
    """Law 1: as many weights as at first, or the schedule's whole number after the update of this step."""
    method = sparsifier.method
    if not isinstance(method, GMP | GraNet):
        return first
    assert method.every is not None
    last = int(STEPS * (method.until if isinstance(method, GraNet) else method.every.end)) // EVERY * EVERY
    left = (1 - min(sparsifier.step / last, 1)) ** 3
    return round((DENSITY + (method.initial - DENSITY) * left) * sparsifier.topology.numel)


Step = Callable[[nn.Module, Optimizer, int], None]


def plain(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    loss_at(model, step).backward()
    optimizer.step()
    optimizer.zero_grad()


def clipped(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    loss_at(model, step).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()


def autocast(model: nn.Module, optimizer: Optimizer, step: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_at(model, step)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def accumulated(set_to_none: bool) -> Step:
    def step_of(model: nn.Module, optimizer: Optimizer, step: int) -> None:
        for part in range(3):
            (loss_at(model, 100 * step + part) / 3).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)

    return step_of


def scaled(set_to_none: bool = True, unscale: bool = False) -> Step:
    """GradScaler, whose scale grows, and with a step that it skips: the first attempt at step 6 (an update) is inf."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)

    def step_of(model: nn.Module, optimizer: Optimizer, step: int) -> None:
        for fault in (torch.inf, 1.0) if step == 6 else (1.0,):
            scaler.scale(loss_at(model, step) * fault).backward()
            if unscale:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=set_to_none)

    return step_of


VARIANTS: dict[str, Callable[[], Step]] = {
    "plain": lambda: plain,
    "clip": lambda: clipped,
    "accumulate": lambda: accumulated(True),
    "accumulate-zeroed": lambda: accumulated(False),
    "autocast": lambda: autocast,
    "scaler": scaled,
    "scaler-zeroed": lambda: scaled(set_to_none=False),
    "scaler-clip": lambda: scaled(unscale=True),
}


def train(model: nn.Module, optimizer: Optimizer, steps: Iterable[int], step_of: Step = plain) -> None:
    for step in steps:
        step_of(model, optimizer, step)


def entries(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """The optimizer's state entries that hold one number per weight."""
    state = optimizer.state.get(parameter, {})
    return {k: v for k, v in state.items() if isinstance(v, Tensor) and v.dim() > 0 and v.numel() == parameter.numel()}
