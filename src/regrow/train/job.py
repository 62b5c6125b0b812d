"""What to train, as objects: the trainer never reads configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from regrow.train.evaluate import LossFn

if TYPE_CHECKING:
    from regrow.sparsifier import Sparsifier
    from regrow.tickets.basin import Evaluate
    from regrow.tickets.distill import Distillation
    from regrow.tickets.plan import Plan
    from regrow.tickets.superpose import Superposition
    from regrow.train.data import Data


@dataclass(frozen=True)
class Job:
    """One training run. The sparsifier, if any, is already attached to `model` and `optimizer`.

    Args:
        model: on the CPU, with its initial weights.
        optimizer: over the model's parameters.
        data: batches as a pure function of (seed, epoch, step).
        loss: (outputs, targets) -> mean loss of the batch.
        epochs: >= 1.
        batch_size: samples of one optimizer step, over all ranks.
        seed: of batches and of the model's own randomness (dropout).
        sparsifier: None trains dense.
        scheduler: of the learning rate, over `optimizer`.
        scheduler_every: "epoch" or "step": when the scheduler steps.
        evaluate_every: epochs between evaluations on the validation split; the last epoch always has one.
        checkpoint_every: optimizer steps between checkpoints; one is written after every epoch besides.
        threads: of the CPU; None keeps torch's.
        flops: of the run, as counted elsewhere; copied into the result.
        plan: the run's phases, as long as the run; tickets are taken where it says. Scheduler and sparsifier follow it.
        selection: a ticket is the "last" iterate of its phase, or the "best" of its epochs on the validation split.
        superposition: from a ticket's validation loss to what averages the tickets at the end; None for no average.
        reestimate: whether the average's BatchNorm statistics are estimated anew, or averaged too.
        distillation: makes what is trained by in place of `loss`, from a teacher and `loss`; None trains by `loss`.
    """

    model: nn.Module
    optimizer: Optimizer
    data: Data
    loss: LossFn
    epochs: int
    batch_size: int
    seed: int
    sparsifier: Sparsifier | None = None
    scheduler: LRScheduler | None = None
    scheduler_every: Literal["epoch", "step"] = "epoch"
    evaluate_every: int = 1
    checkpoint_every: int | None = None
    threads: int | None = None
    flops: Mapping[str, Any] | None = None
    plan: Plan = ()
    selection: Literal["last", "best"] = "last"
    superposition: Callable[[Evaluate], Superposition] | None = None
    reestimate: bool = False
    distillation: Callable[[], Distillation] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return self.data.steps(self.batch_size)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def identity(self) -> dict[str, int | str]:
        """What makes it this run and no other: the checkpoint of another is refused. A plan may be extended."""
        length = {} if self.plan else {"epochs": self.epochs}
        return {
            "seed": self.seed,
            **length,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "data": self.data.name,
        }
