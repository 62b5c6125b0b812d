"""Law 5 in people's own loops: state_dict, torch.save, load_state_dict: bit for bit."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from zoo import GROWING, OPTIMIZERS, STEPS, THREE, plain, sparse, tiny_model, train

import regrow
from regrow import RegrowError
from regrow.sparsifier import Sparsifier


def start(method: str, kind: str, weights: int = 0, **changes: Any) -> tuple[nn.Module, Optimizer, Sparsifier]:
    model = tiny_model(weights)
    optimizer = OPTIMIZERS[kind](model.parameters())
    return model, optimizer, sparse(model, optimizer, method, **changes)


def saved(model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier) -> io.BytesIO:
    file = io.BytesIO()
    torch.save({"m": model.state_dict(), "o": optimizer.state_dict(), "s": sparsifier.state_dict()}, file)
    file.seek(0)
    return file


def resumed(file: io.BytesIO, method: str, kind: str, order: str = "mos") -> tuple[nn.Module, Optimizer, Sparsifier]:
    parts = dict(zip("mos", start(method, kind, weights=9), strict=True))  # other weights: all must come from the file
    content = torch.load(file, weights_only=True)
    for key in order:
        parts[key].load_state_dict(content[key])
    return parts["m"], parts["o"], parts["s"]


def bits(model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier) -> list[Any]:
    tensors = [*model.state_dict().values()]
    states = [optimizer.state[parameter] for parameter in model.parameters()]
    tensors += [v for state in states for _, v in sorted(state.items()) if isinstance(v, torch.Tensor)]
    tensors += [v for _, v in sorted(sparsifier.backend.buffers().items())]
    plain = [sparsifier.step, sparsifier.topology.digest(), sparsifier.explored.digest(), sparsifier._exploration]
    return [*plain, *(tensor.numpy().tobytes() for tensor in tensors)]


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_bit_exact_just_before_at_and_after_an_update(method: str, kind: str) -> None:
    run = start(method, kind)
    files = {}
    for step in range(STEPS + 1):
        if step in (0, 5, 6, 7):
            files[step] = saved(*run)
        plain(run[0], run[1], step + 1)
    for step, file in files.items():
        again = resumed(file, method, kind)
        train(again[0], again[1], range(step + 1, STEPS + 2))
        assert bits(*again) == bits(*run), f"resumed at step {step}"


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "set-itop-unexplored", "snfs"])
def test_bit_exact_from_every_step(method: str) -> None:
    run = start(method, "adamw")
    files = []
    for step in range(1, STEPS + 1):
        files.append(saved(*run))
        plain(run[0], run[1], step)
    for step, file in enumerate(files):
        again = resumed(file, method, "adamw")
        train(again[0], again[1], range(step + 1, STEPS + 1))
        assert bits(*again) == bits(*run), f"resumed at step {step}"


@pytest.mark.parametrize("order", ["mos", "som", "smo"])
def test_any_order_of_loading(order: str) -> None:
    run = start("snfs", "sgd-momentum")
    train(run[0], run[1], range(1, 6))
    again = resumed(saved(*run), "snfs", "sgd-momentum", order)
    for model, optimizer, _ in (run, again):
        train(model, optimizer, range(6, STEPS + 1))
    assert bits(*again) == bits(*run)


@pytest.mark.parametrize("method", GROWING)
def test_an_armed_exploration_is_resumed(method: str) -> None:
    run = start(method, "sgd-momentum")
    train(run[0], run[1], range(1, 5))
    run[2].explore(0.7)
    again = resumed(saved(*run), method, "sgd-momentum")
    before = run[2].topology
    for model, optimizer, _ in (run, again):
        plain(model, optimizer, 5)
    assert run[2].topology != before
    for model, optimizer, _ in (run, again):
        train(model, optimizer, range(6, STEPS + 1))
    assert bits(*again) == bits(*run)


def test_a_saved_state_is_a_snapshot() -> None:
    """Kept in memory, it neither moves with the run, nor is it changed by loading: a run can go back to it twice."""
    run = start("snfs", "sgd-momentum")
    train(run[0], run[1], range(1, 5))
    state = run[2].state_dict()
    model, optimizer = copy.deepcopy(run[0].state_dict()), copy.deepcopy(run[1].state_dict())
    ends = []
    for _ in range(3):
        train(run[0], run[1], range(5, STEPS + 1))
        ends.append(bits(*run))
        run[0].load_state_dict(model)
        run[1].load_state_dict(copy.deepcopy(optimizer))
        run[2].load_state_dict(state)
    assert ends[0] == ends[1] == ends[2]


def test_the_state_is_small() -> None:
    _, _, sparsifier = start("rigl", "sgd")
    state = sparsifier.state_dict()
    weights = sparsifier.topology.numel
    assert sum(b.numel() for b in state["topology"]["code"].values()) <= weights / 8 + len(sparsifier.topology)
    assert not state["buffers"]


def damaged(state: dict[str, Any]) -> dict[str, Any]:
    bits_of = next(iter(state["topology"]["code"].values()))
    bits_of[0] ^= 1
    return state


def without(key: str) -> Any:
    return lambda state: {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damaged, "damaged"),
        (without("topology"), "not the state of a sparsifier"),
        (without("step"), "not the state of a sparsifier"),
        (lambda _: {"weight": torch.ones(3)}, "not the state of a sparsifier"),
        (lambda _: [1, 2], "not the state of a sparsifier"),
        (lambda s: s | {"topology": None}, "not the state of a sparsifier"),
        (lambda s: s | {"topology": s["topology"] | {"code": {}}}, "shape for every site"),
    ],
)
def test_a_damaged_or_foreign_state_is_refused(harm: Any, message: str) -> None:
    _, _, sparsifier = start("rigl", "sgd")
    before = bits(*start("rigl", "sgd"))
    with pytest.raises(RegrowError, match=message):
        sparsifier.load_state_dict(harm(sparsifier.state_dict()))
    assert sparsifier.step == before[0]
    assert sparsifier.topology.digest() == before[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2}, "seed: saved 2, here 1"),
        ({"total_steps": 20}, "total_steps: saved 20, here 12"),
        ({"method": "set"}, "method: saved 'DropGrow"),
        ({"exclude": ["6"]}, "the sparse sites"),
    ],
)
def test_a_state_of_another_setup_is_refused(changes: dict[str, Any], message: str) -> None:
    changes = {"method": "rigl"} | changes
    _, _, other = start(changes.pop("method"), "sgd", **changes)
    _, _, sparsifier = start("rigl", "sgd")
    with pytest.raises(RegrowError, match=message):
        sparsifier.load_state_dict(other.state_dict())
