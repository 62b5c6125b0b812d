"""Dense convolutions in channels_last: the recipe's word reaches the weights, and law 5 holds as it does without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from interrupt import Interrupted, stop_at
from regrow.recipe.build import job_of
from regrow.recipe.load import recipe_of
from regrow.train.job import Job
from regrow.train.loop import fit
from regrow.train.paths import RunFolder

SPARSE: dict[str, Any] = {
    "method": {"name": "rigl-itop", "every": {"interval": 3}},
    "density": 0.2,
    "exclude": ["0.weight"],
}
RECIPE: dict[str, Any] = {
    "name": "last",
    "data": "digits",
    "model": {"name": "cnn", "widths": [8, 8, 8, 8, 8, 8]},
    "optimizer": "sgd",
    "epochs": 2,
    "batch_size": 256,
    "memory_format": "channels_last",
}


def job(**changes: Any) -> Job:
    return job_of(recipe_of(RECIPE | changes, "last.yaml"), 0)


@pytest.mark.parametrize("changes", [{}, SPARSE, SPARSE | {"backend": "sparse"}], ids=["dense", "masked", "sparse"])
def test_weights_in_channels_last_resume_bit_for_bit(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kernels = [p for p in job(**changes).model.parameters() if p.dim() == 4]  # values of sparse ones are a vector
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    result = fit(job(**changes), whole)
    with pytest.raises(Interrupted):
        fit(job(**changes), folder, on_progress=stop_at(8))
    assert fit(job(**changes), folder)["model_digest"] == result["model_digest"]
