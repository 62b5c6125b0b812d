"""Weights & Biases: project `regrow`, a run per run; offline by wandb's own WANDB_MODE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.train.paths import RunFolder
from regrow.train.sinks import title


class Wandb:
    """A resumed run goes on in the same one."""

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        import wandb  # type: ignore[import-not-found, unused-ignore]

        name, own = title(folder), {"config": dict(settings), "dir": str(folder.path)}
        folder.path.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(project="regrow", id=name, name=name, resume="allow", **own)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
