"""Accelerate: a resumed run is the same, from save_state and load_state."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from same import bits, example, zeros_hold

from regrow.core.errors import RegrowError


@pytest.fixture(scope="module")
def accelerate() -> ModuleType:
    return example("accelerate_loop")


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_a_resumed_run_is_the_same(accelerate: ModuleType, tmp_path: Path, backend: str) -> None:
    model, whole = accelerate.train(tmp_path / "whole", epochs=3, last=3, backend=backend)
    assert whole.exploration_rate > whole.density
    assert zeros_hold(model, whole)
    accelerate.train(tmp_path / "stopped", epochs=3, last=1, backend=backend)
    again, resumed = accelerate.train(tmp_path / "stopped", epochs=3, first=1, last=3, backend=backend)
    assert bits(again, resumed) == bits(model, whole)


def test_a_checkpoint_without_masks_is_refused(accelerate: ModuleType, tmp_path: Path) -> None:
    accelerate.train(tmp_path, epochs=2, last=1)
    (tmp_path / "sparsifier.pt").unlink()
    with pytest.raises(RegrowError, match=r"sparsifier\.pt is missing"):
        accelerate.train(tmp_path, epochs=2, first=1, last=2)
