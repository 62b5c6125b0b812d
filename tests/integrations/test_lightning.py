"""The Lightning callback: sparse through fit, and resumed from Lightning's own checkpoint bit for bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from same import bits, example, zeros_hold

from regrow.core.errors import RegrowError
from regrow.tickets.plan import edst

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice, and what it uses of torch that is deprecated


@pytest.fixture(scope="module")
def lightning() -> ModuleType:
    return example("lightning_callback")


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_a_resumed_run_is_the_same(lightning: ModuleType, tmp_path: Path, backend: str) -> None:
    def callback() -> object:
        return lightning.Sparsify(method="rigl-itop", density=0.1, every=10, total_steps=63, backend=backend)

    whole, resumed = callback(), callback()
    model = lightning.train(tmp_path, whole, epochs=3)
    assert whole.sparsifier.step == 63
    assert whole.sparsifier.exploration_rate > whole.sparsifier.density
    assert zeros_hold(model, whole.sparsifier)
    again = lightning.train(tmp_path / "again", resumed, epochs=3, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert bits(again, resumed.sparsifier) == bits(model, whole.sparsifier)


def test_the_trainer_knows_the_length(lightning: ModuleType, tmp_path: Path) -> None:
    callback = lightning.Sparsify(method="set", density=0.1, every=10)
    lightning.train(tmp_path, callback, epochs=1)
    assert callback.sparsifier.total_steps == 21


def test_a_plan_brings_its_own(lightning: ModuleType, tmp_path: Path) -> None:
    callback = lightning.Sparsify(density=0.1, every=2, plan=edst(11, 10, tickets=1))
    lightning.train(tmp_path, callback, epochs=1)
    assert callback.sparsifier.total_steps == 21


def test_a_run_without_an_end_is_refused(lightning: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"no end .*max_steps, or Sparsify\(total_steps"):
        lightning.train(tmp_path, lightning.Sparsify(density=0.1), epochs=-1)


def test_several_optimizers_are_refused(lightning: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([p], lr=0.1) for p in (*model.parameters(),)[:2]]

    monkeypatch.setattr(lightning.Digits, "configure_optimizers", two)
    monkeypatch.setattr(lightning.Digits, "automatic_optimization", False)
    with pytest.raises(RegrowError, match="Digits has 2 optimizers; the callback serves one"):
        lightning.train(tmp_path, lightning.Sparsify(density=0.1, total_steps=9), epochs=1)
