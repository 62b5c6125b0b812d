"""What is said while a run goes: loss, accuracy, R_s, density, rate, and seconds saved against dense runs beside it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from run_folders import make

from regrow.cli.progress import watched, words
from regrow.report.pace import dense_epoch
from regrow.train.loop import Progress

ROW = {"loss": 0.5, "val_accuracy": 0.9, "density": 0.1, "exploration_rate": 0.3, "epoch": 4, "seconds": 6.0}
LIKE = {"data": "cifar10", "batch_size": 32, "parameters": 10_000, "threads": 1}


def test_a_row_in_words() -> None:
    assert words(ROW) == "loss 0.5 val 90.0 % R_s 0.30 density 0.1"
    assert words(ROW, dense=2.5).endswith("density 0.1 4 s saved")
    assert words(ROW, dense=1.0).endswith("density 0.1 2 s more than dense")
    assert words({**ROW, "density": 1.0, "val_accuracy": None}, dense=2.5) == "loss 0.5"


def test_dense_runs_beside_say_how_fast_dense_is(tmp_path: Path) -> None:
    assert dense_epoch(tmp_path, LIKE) is None
    make(tmp_path, "rigl")
    assert dense_epoch(tmp_path, LIKE) is None, "none of them is dense"
    dense = make(tmp_path, None, None)
    assert dense_epoch(tmp_path, LIKE) == 2.5
    for key, other in (("data", "mnist"), ("batch_size", 64), ("parameters", 9), ("threads", 2)):
        assert dense_epoch(tmp_path, LIKE | {key: other}) is None
    (dense / "result.json").write_text("{")
    assert dense_epoch(tmp_path, LIKE) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_is_watched(terminal: bool) -> None:
    told = StringIO()
    console = Console(file=told, force_terminal=terminal, width=120)
    with watched("digits seed 0", console, dense=2.5) as tell:
        for step in range(1, 9):
            tell(Progress(step, 8, (step + 1) // 2, 4, 0.5, ROW if step % 2 == 0 else None))
    shown = told.getvalue()
    assert "digits seed 0" in shown
    assert "4/4 loss 0.5 val 90.0 % R_s 0.30 density 0.1 4 s saved" in shown
    assert ("steps/s" in shown) == terminal
