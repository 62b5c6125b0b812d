"""Lightning: `Trainer(callbacks=[Sparsify(method="rigl", density=0.1)])` trains a LightningModule sparsely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from regrow.core.errors import RegrowError
from regrow.integrations.take_up import take_up
from regrow.sparsifier import Sparsifier


class Sparsify(Callback):
    """Trains sparsely from the start of `fit` to its end. Lightning's checkpoints hold the masks and R_s too.

    Args:
        setup: what `regrow.sparsify` takes; total_steps is the trainer's, if neither it nor a plan is given.

    Attributes:
        sparsifier: from `on_fit_start` on.

    Raises:
        RegrowError: at `fit`: several optimizers, or a strategy that shards parameters.
    """

    sparsifier: Sparsifier

    def __init__(self, **setup: Any) -> None:
        self.setup_ = setup
        self._saved: Mapping[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise RegrowError(
                f"{type(pl_module).__name__} has {len(trainer.optimizers)} optimizers; the callback serves one. Call "
                "regrow.sparsify in configure_optimizers for the one that is to train sparsely"
            )
        if trainer.strategy.restore_checkpoint_after_setup:
            raise RegrowError(
                f"{type(trainer.strategy).__name__} shards parameters and loads checkpoints late; use strategy='ddp'"
            )
        setup = self.setup_ if self.setup_.get("plan") else {"total_steps": _total_steps(trainer)} | self.setup_
        self.sparsifier = take_up(pl_module, trainer.optimizers[0], self._saved, **setup)
        self._saved = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.sparsifier.finalize()

    def state_dict(self) -> dict[str, Any]:
        return self.sparsifier.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._saved = state_dict  # of a model that Lightning has filled already: taken up when `fit` starts


def _total_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if steps in (-1, float("inf")):
        raise RegrowError(
            "the trainer has no end (max_epochs=-1), but schedules need one: give max_steps, or "
            "Sparsify(total_steps=...)"
        )
    return int(steps)
