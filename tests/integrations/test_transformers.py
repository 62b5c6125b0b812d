"""The Hugging Face callback: sparse through train, and resumed from the Trainer's own checkpoint bit for bit."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from same import bits, example, zeros_hold

from regrow.core.errors import RegrowError

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers and its optional parts say of themselves


@pytest.fixture(scope="module")
def huggingface() -> ModuleType:
    return example("huggingface_trainer")


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_a_resumed_run_is_the_same(huggingface: ModuleType, tmp_path: Path, backend: str) -> None:
    def callback() -> object:
        return huggingface.Sparsify(method="rigl-itop", density=0.3, every=5, backend=backend)

    whole, resumed = callback(), callback()
    model = huggingface.train(tmp_path, whole, steps=20)
    assert whole.sparsifier.step == whole.sparsifier.total_steps == 20
    assert whole.sparsifier.exploration_rate > whole.sparsifier.density
    assert zeros_hold(model, whole.sparsifier)
    again = huggingface.train(tmp_path, resumed, steps=20, resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert bits(again, resumed.sparsifier) == bits(model, whole.sparsifier)


def test_a_checkpoint_without_masks_is_refused(huggingface: ModuleType, tmp_path: Path) -> None:
    huggingface.train(tmp_path, huggingface.Sparsify(density=0.3, every=5), steps=10)
    (tmp_path / "checkpoint-5" / "sparsifier.pt").unlink()
    with pytest.raises(RegrowError, match=r"checkpoint-5/sparsifier\.pt is missing: .* topology='magnitude'"):
        huggingface.train(tmp_path, huggingface.Sparsify(density=0.3, every=5), 10, str(tmp_path / "checkpoint-5"))


def test_the_best_model_comes_with_its_masks(
    huggingface: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint is the best, as the loss here is the number of steps."""

    def steps(trainer: Any, *args: object, **more: object) -> dict[str, float]:
        return {"eval_loss": float(trainer.state.global_step)}

    monkeypatch.setattr(huggingface.Trainer, "evaluate", steps)
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10}
    callback = huggingface.Sparsify(method="rigl-itop", density=0.3, every=5)
    model = huggingface.train(tmp_path, callback, 20, **best)
    assert callback.sparsifier.step == 10
    assert zeros_hold(model, callback.sparsifier)
    refused = huggingface.Sparsify(density=0.3, every=5, backend="sparse")
    with pytest.raises(RegrowError, match="load_best_model_at_end puts weights of another topology"):
        huggingface.train(tmp_path / "sparse", refused, 20, **best)
