"""Optimizers: which keep the law, and the state a fresh one would hold. Found by trial, never by type."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core.errors import RegrowError

_WAY_OUT = "use an element-wise optimizer (SGD, Adam, AdamW, RMSprop, Adagrad, ...)"


def fresh_state(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, float]:
    """What a fresh optimizer holds for a weight that has only seen zeros, per state entry shaped like the parameter.

    A twin of the optimizer takes three steps on a 4x4 parameter whose upper triangle is zero and gets zero gradients
    (whole zero rows would not do: Muon keeps those). The law: the triangle stays exactly zero, and every state entry is
    shaped like the parameter or a single number.

    Raises:
        RegrowError: the optimizer breaks the law: it mixes entries, factors its state, needs closures.
    """
    kind = type(optimizer).__name__
    weight = nn.Parameter(torch.ones(4, 4).tril())
    try:
        twin = _twin(optimizer, group, weight)
        for step in range(3):
            weight.grad = (torch.arange(1.0, 17.0).view(4, 4).sin() + step).tril()
            twin.step()
    except Exception as error:  # whatever a foreign optimizer raises, the user gets one clear error
        raise RegrowError(f"{kind} cannot train masked weights ({error}); {_WAY_OUT}") from error
    if bool((weight.triu(1) != 0).any()):
        raise RegrowError(f"{kind} moves weights that get no gradient, so masked ones would not stay zero; {_WAY_OUT}")
    fresh = {}
    for key, value in twin.state[weight].items():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            fresh[key] = float(value[0, -1])
        elif isinstance(value, Tensor) and value.numel() > 1:
            raise RegrowError(f"{kind} keeps {key!r} of shape {tuple(value.shape)} across weights; {_WAY_OUT}")
    return fresh


def _twin(optimizer: Optimizer, group: dict[str, Any], weight: nn.Parameter) -> Optimizer:
    accepted = inspect.signature(type(optimizer).__init__).parameters
    settings = {key: value for key, value in group.items() if key in accepted and key not in ("params", "self")}
    settings |= {key: False for key in ("capturable", "differentiable") if key in settings}
    settings |= {key: None for key in ("fused", "foreach") if key in settings}
    settings |= {"lr": float(settings["lr"]) or 1e-3} if "lr" in settings else {}  # a warm-up starts at 0
    return type(optimizer)([weight], **settings)


def group_of(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Any] | None:
    """The parameter group that holds this parameter."""
    return next((g for g in optimizer.param_groups if any(p is parameter for p in g["params"])), None)


FIRST_MOMENTS = ("momentum_buffer", "exp_avg")


def first_moment(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor | None:
    """The optimizer's running mean of gradients for this parameter; None before its first step."""
    state = optimizer.state.get(parameter, {})
    return next((state[key] for key in FIRST_MOMENTS if isinstance(state.get(key), Tensor)), None)


def check_moment(optimizer: Optimizer, fresh: Mapping[str, float]) -> None:
    """Refuses an optimizer that keeps no running mean of gradients, given its `fresh_state`."""
    if not any(key in fresh for key in FIRST_MOMENTS):
        raise RegrowError(
            f"{type(optimizer).__name__} keeps no momentum here, which this method reads; use SGD(momentum=.9) or Adam"
        )


def decay_of(group: dict[str, Any]) -> float:
    """The rate at which the group's first moment forgets: SGD's momentum or Adam's beta_1; .9 where there is none."""
    betas = group.get("betas")
    return float(betas[0]) if betas else float(group.get("momentum") or 0.9)
