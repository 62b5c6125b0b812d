"""The torchrun example: two processes, stopped and gone on from the plain checkpoint, the same bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from regrow.train.checkpoint import digest


def saved(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "runs" / "ddp.pt", weights_only=True)  # type: ignore[no-any-return]


def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    child = Path(__file__).with_name("ddp_loop_child.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(child)]
    done = subprocess.run(
        [*launcher, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("accuracy on the 397 images left out") == 3
    whole, resumed = saved(tmp_path / "whole"), saved(tmp_path / "stopped")
    assert whole["sparsifier"]["step"] == 6 * 21
    assert digest(resumed) == digest(whole)
