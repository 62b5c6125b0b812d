"""Ghosts and soft neurons on the sparse backend: in its layout, as exact as without it, and nothing of them is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regrow
from regrow.execution.lane_layers import GroupedConv2d, LaneConv2d, LaneLinear
from regrow.execution.lane_norms import LaneBatchNorm1d, LaneBatchNorm2d, in_image_lanes
from regrow.execution.norm_ops import in_lanes
from regrow.sparsifier import Sparsifier
from regrow.train import models
from regrow.tweaks import GhostSkip, SoftActivation, Tweak
from regrow.tweaks.branch import Branch
from regrow.tweaks.soft_activation import Soft

Run = tuple[nn.Module, torch.optim.Optimizer, Sparsifier]


def depthwise() -> nn.Module:
    """With a layer in groups, one that grows the image, a ReLU6 and two linear layers."""
    wide = [nn.Conv2d(3, 8, 3, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    deep = [nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    point = [nn.Conv2d(8, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*wide, *deep, *point, nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 5))


NETS: dict[str, Callable[[], nn.Module]] = {
    "cnn": lambda: models.build("cnn", (3, 12, 12), 5, widths=(4, 6, 6)),
    "resnet18": lambda: models.build("resnet18", (3, 12, 12), 5, width=4),
    "depthwise": depthwise,
}


def start(net: str, backend: str, tweaks: list[Tweak], kind: torch.dtype = torch.float32, **changes: Any) -> Run:
    torch.manual_seed(0)
    model = NETS[net]().to(kind)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    given: dict[str, Any] = {"method": "static", "density": 0.5, "total_steps": 10} | changes
    return model, optimizer, regrow.sparsify(model, optimizer, backend=backend, tweaks=tweaks, **given)


def train(run: Run, steps: int, kind: torch.dtype = torch.float32) -> None:
    model, optimizer, _ = run
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 3, 12, 12, dtype=kind, generator=generator)
        nn.functional.cross_entropy(model(x), torch.arange(6) % 5).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_as_on_the_masked_backend(net: str, identity: bool) -> None:
    """In float64, where the order of sums does not tell: the same training while they fade, and after."""
    runs = []
    for backend in ("masked", "sparse"):
        tweaks: list[Tweak] = [GhostSkip(identity=identity, until=0.5), SoftActivation(until=0.8)]
        runs.append(start(net, backend, tweaks, torch.float64))
        train(runs[-1], 7, torch.float64)
    states = [model.state_dict() for model, _, _ in runs]
    torch.testing.assert_close(*states, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["swish", "gelu"])
@pytest.mark.parametrize("net", NETS)
def test_they_stay_in_lanes(net: str, kind: str) -> None:
    model, _, _ = run = start(net, "sparse", [GhostSkip(), SoftActivation(kind=kind)])
    left: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            if not (in_image_lanes(out) if out.dim() == 4 else in_lanes(out)):
                left.append(name)

        return hook

    ours = {name: m for name, m in model.named_modules() if isinstance(m, Branch | Soft)}
    inside = {name: m for name, m in model.named_modules() if name.endswith("ghost.dense")}
    for name, module in (ours | inside).items():
        module.register_forward_hook(look(name))
    train(run, 1)
    assert ours
    assert not left


def test_classes_while_they_live_and_after() -> None:
    model, _, sparsifier = run = start("depthwise", "sparse", [GhostSkip(), SoftActivation()])
    ghosts = [m for m in model.modules() if isinstance(m, Branch)]
    assert [type(g.dense) for g in ghosts] == [LaneConv2d, GroupedConv2d, LaneConv2d, LaneLinear]
    assert [type(g.norm) for g in ghosts] == [*[LaneBatchNorm2d] * 3, LaneBatchNorm1d]
    assert not any(type(m) is Branch for m in ghosts)
    seen = [weakref.ref(ghost) for ghost in ghosts]
    del ghosts
    train(run, 6)
    gc.collect()
    assert not any(ghost() for ghost in seen)
    sparsifier.finalize()
    assert [type(m) for m in model.modules()] == [type(m) for m in NETS["depthwise"]().modules()]


@pytest.mark.parametrize("net", NETS)
def test_alpha_0_is_the_plain_net_bit_for_bit(net: str) -> None:
    plain, haunted = start(net, "sparse", []), start(net, "sparse", [GhostSkip(start=0.0)])
    for run in (plain, haunted):
        train(run, 3)
    state = haunted[0].state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain[0].state_dict().items())


@pytest.mark.parametrize("net", NETS)
def test_auto_runs_them_as_it_runs_the_rest(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.execution.trial.passes", lambda *_: lambda: None)
    monkeypatch.setattr("regrow.execution.trial._time", lambda *_: None)
    monkeypatch.setattr("regrow.execution.trial.in_turn", lambda ways: [3.0, 1.0, 2.0][: len(ways)])
    tweaks: list[Tweak] = [GhostSkip(until=0.5), SoftActivation(until=0.5)]
    runs = [start(net, backend, tweaks, torch.float64) for backend in ("sparse", "auto")]
    for run in runs:
        train(run, 2, torch.float64)
    kinds = [[(name, type(m)) for name, m in model.named_modules() if "ghost" in name] for model, _, _ in runs]
    assert kinds[0] == kinds[1]
    for run in runs:
        train(run, 6, torch.float64)
        run[2].finalize()
    torch.testing.assert_close(*[model.state_dict() for model, _, _ in runs], rtol=1e-6, atol=1e-8)


def test_bfloat16_as_autocast_has_it() -> None:
    ends = []
    for backend in ("masked", "sparse"):
        model, _, _ = start("cnn", backend, [GhostSkip(), SoftActivation()])
        x = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(2))
        with torch.autocast("cpu", torch.bfloat16):
            ends.append(model(x).float())
    torch.testing.assert_close(*ends, rtol=0.1, atol=0.1)
