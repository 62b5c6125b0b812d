"""What training cost in seconds: steps, topology updates apart, and epochs. Resuming adds up."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch


@dataclass
class Stopwatch:
    """Seconds of every ordinary step, of every step with a topology update, and of all training so far.

    A step is forward, backward and optimizer; the total has the batches' preparation too, but neither evaluation
    nor writing.
    """

    ordinary: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)
    total: float = 0.0

    def add(self, step: float, total: float, update: bool) -> None:
        """Count one step: its seconds, and those since the end of the one before."""
        (self.updates if update else self.ordinary).append(step)
        self.total += total

    def summary(self, steps_per_epoch: int) -> dict[str, float | None]:
        """Medians per step and per update step, the mean per epoch, and the total, in seconds."""
        steps = len(self.ordinary) + len(self.updates)
        return {
            "seconds_per_step": median(self.ordinary) if self.ordinary else None,
            "seconds_per_update": median(self.updates) if self.updates else None,
            "seconds_per_epoch": self.total / steps * steps_per_epoch if steps else None,
            "seconds": self.total,
        }

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "ordinary": torch.tensor(self.ordinary, dtype=torch.float64),
            "updates": torch.tensor(self.updates, dtype=torch.float64),
            "total": self.total,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.ordinary = state["ordinary"].tolist()
        self.updates = state["updates"].tolist()
        self.total = state["total"]
