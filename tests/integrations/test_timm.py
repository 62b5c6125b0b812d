"""timm's saver: with timm itself where it is installed, else with a stand-in of its CheckpointSaver."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from same import bits, example, zeros_hold

import regrow
from regrow.core.errors import RegrowError
from regrow.train.models.from_timm import _import_timm


class CheckpointSaver:
    """What SparseSaver stands on of timm's."""

    def __init__(self, model: Any, optimizer: Any, **rest: Any) -> None:
        self.rest = rest

    def state_dict(self, epoch: int | None = None, metric: float | None = None) -> dict[str, Any]:
        return {"pending": (epoch, metric)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loaded = state_dict


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The adapter, on the stand-in."""
    timm, utils = ModuleType("timm"), ModuleType("timm.utils")
    utils.CheckpointSaver = CheckpointSaver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.utils", utils)
    monkeypatch.delitem(sys.modules, "regrow.integrations.timm", raising=False)
    yield import_module("regrow.integrations.timm")
    sys.modules.pop("regrow.integrations.timm")


def small() -> tuple[torch.nn.Module, torch.optim.Optimizer, regrow.Sparsifier]:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, regrow.sparsify(model, optimizer, method="set", density=0.3, total_steps=9, every=2)


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer, regrow.Sparsifier]:
    model, optimizer, sparsifier = small()
    for _ in range(steps):
        model(torch.ones(2, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer, sparsifier


def test_the_savers_state_holds_the_sparsifier(adapter: ModuleType) -> None:
    model, optimizer, sparsifier = trained(4)
    saver = adapter.SparseSaver(model, optimizer, sparsifier=sparsifier, checkpoint_dir="here")
    assert saver.rest == {"checkpoint_dir": "here"}
    state = saver.state_dict(3, 0.5)
    assert state["pending"] == (3, 0.5)
    model, optimizer, fresh = small()
    other = adapter.SparseSaver(model, optimizer, sparsifier=fresh)
    other.load_state_dict(state)
    assert fresh.topology == sparsifier.topology
    assert fresh.step == 4
    assert other.loaded == {"pending": (3, 0.5)}


def test_a_checkpoint_without_a_sparsifier_is_refused(adapter: ModuleType) -> None:
    model, optimizer, sparsifier = small()
    saver = adapter.SparseSaver(model, optimizer, sparsifier=sparsifier)
    with pytest.raises(RegrowError, match="holds no sparsifier"):
        saver.load_state_dict({"pending": (1, None)})


def test_an_older_timm_is_refused(adapter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, sparsifier = small()
    monkeypatch.delattr(CheckpointSaver, "state_dict")
    with pytest.raises(RegrowError, match=r"timm>=1\.0\.31"):
        adapter.SparseSaver(model, optimizer, sparsifier=sparsifier)


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    try:
        _import_timm("vit_tiny_patch16_224")
    except RegrowError:
        pytest.skip("timm is not installed: it draws in torchvision, whose CUDA build breaks other packages here")
    timm = example("timm_saver")
    for folder in ("whole", "stopped"):
        (tmp_path / folder).mkdir()
    model, average, whole = timm.train(tmp_path / "whole")
    assert zeros_hold(model, whole)
    timm.train(tmp_path / "stopped", last=2)
    again, resumed_average, resumed = timm.train(tmp_path / "stopped", resume=tmp_path / "stopped" / "last.pth.tar")
    assert bits(again, resumed) == bits(model, whole)
    for one, other in zip(average.state_dict().values(), resumed_average.state_dict().values(), strict=True):
        assert torch.equal(one, other)
