"""The training loop: plain, deterministic, and resumable bit for bit from every step it wrote a checkpoint at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.rng import seed_of
from regrow.train import checkpoint, record
from regrow.train.agreement import check_agreement
from regrow.train.atomic import claim
from regrow.train.course import Course
from regrow.train.devices import keep_memory, launched, threads
from regrow.train.evaluate import answers, evaluate, sum_over_ranks
from regrow.train.harvest import Harvest, quality
from regrow.train.job import Job
from regrow.train.judged import Judged
from regrow.train.paths import RunFolder
from regrow.train.record import Record
from regrow.train.state import content_of, exploration, final_state, restore
from regrow.train.surroundings import differences, surroundings, warn
from regrow.train.timing import Stopwatch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Progress:
    """Told after every step, on rank 0. `row` is the metrics row of an epoch that has just ended."""

    step: int
    total_steps: int
    epoch: int
    epochs: int
    loss: float
    row: Record | None = None


def fit(
    job: Job,
    folder: RunFolder,
    fabric: Fabric | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_difference: Callable[[str], None] = warn,
) -> Record:
    """Train `job` in `folder` to its end and return the final record, which is also `result.json`.

    A checkpoint in the folder is continued, a finished run is returned as it is stored. Under `torchrun` every process
    calls this alike; they share the folder.

    Args:
        fabric: a launched Lightning Fabric; by default `launched()`.
        on_difference: told when versions, threads, instruction set and the like are not those of the checkpoint, so
            that continuing bit for bit is not promised.

    Raises:
        RegrowError: the loss is not finite, the checkpoint is unusable or of another run, another process is training
            here, or ranks disagree.
    """
    if folder.finished:
        return record.read_json(folder.result)
    with ExitStack() as stack:
        stack.enter_context(threads(job.threads))
        keep_memory()
        fabric = fabric or stack.enter_context(launched())
        if fabric.is_global_zero:
            stack.enter_context(claim(folder.path))
        run = _Run(job, folder, fabric, on_progress or (lambda progress: None))
        run.begin(on_difference)
        while run.step < job.total_steps:
            run.train_epoch()
        return run.finish()


class _Run:
    """One run under way: where it stands, and the steps it takes."""

    def __init__(self, job: Job, folder: RunFolder, fabric: Fabric, tell: Callable[[Progress], None]) -> None:
        if job.steps_per_epoch < 1:
            raise RegrowError(
                f"batch_size {job.batch_size} is larger than the training split of {job.data.name!r}: no batch is "
                "whole. Use a smaller batch_size."
            )
        check_agreement(job, fabric)
        self.job, self.folder, self.fabric, self.tell = job, folder, fabric, tell
        self.model, self.optimizer = fabric.setup(job.model, job.optimizer)
        self.loss = job.sparsifier.loss(job.loss) if job.sparsifier else job.loss
        self.distillation = job.distillation().to(fabric.device) if job.distillation else None
        self.surroundings = surroundings(fabric)
        self.step = 0
        self.loss_sum = 0.0  # of the current epoch
        self.row: Record = {}  # of the last finished epoch
        self.watch = Stopwatch()
        self.harvest = Harvest(job, folder, fabric)
        self.course = Course(job.sparsifier)

    def begin(self, on_difference: Callable[[str], None]) -> None:
        """Continue from the folder's checkpoint, or start."""
        if self.folder.checkpoint.exists():
            self._resume(on_difference)
        if self.fabric.is_global_zero:
            record.cut_back(self.folder, self.step)
            if not self.folder.environment.exists():
                record.write_json(self.folder.environment, record.environment(self.surroundings))

    def _resume(self, on_difference: Callable[[str], None]) -> None:
        content = restore(self.job, self.folder)
        if content.get("teacher", "") != self._teacher:
            raise RegrowError(
                f"{self.folder.path} has learnt from another teacher, which was changed since: use another folder, or "
                "put the teacher's run back"
            )
        self.step, self.loss_sum, self.row = content["step"], content["loss_sum"], content["row"]
        self.watch.load_state_dict(content["watch"])
        self.harvest.best = content["best"]
        self.course.load_state_dict(content.get("course"))
        changed = differences(content["surroundings"], self.surroundings)
        if changed and self.fabric.is_global_zero:
            on_difference(
                f"{self.folder.path} continues at step {self.step}, but not bit for bit: "
                f"since its checkpoint these changed: {'; '.join(changed)}."
            )

    def train_epoch(self) -> None:
        """From where the run stands to the end of the epoch: its steps, evaluation, row and checkpoint."""
        job, fabric = self.job, self.fabric
        epoch, start = divmod(self.step, job.steps_per_epoch)
        self.model.train()
        batches = job.data.train(job.batch_size, job.seed, epoch, start, fabric.global_rank, fabric.world_size)
        done = perf_counter()
        for inputs, targets in batches:
            began = perf_counter()
            loss, update = self._train_step(inputs.to(fabric.device), targets.to(fabric.device))
            self.watch.add(perf_counter() - began, perf_counter() - done, update)
            if self.step % job.steps_per_epoch == 0:
                self._end_epoch(epoch, loss)
            else:
                self._tell(epoch, loss)
                self.harvest.after(self.step, epoch, None)
                if job.checkpoint_every and self.step % job.checkpoint_every == 0:
                    self._save()
            done = perf_counter()

    def _train_step(self, inputs: Tensor, targets: Tensor) -> tuple[float, bool]:
        """One optimizer step; returns its loss and whether the topology was updated."""
        job = self.job
        before = self._last_update()
        reseed(job.seed, self.step, self.fabric)
        loss_fn = self.distillation.loss(inputs, self.loss) if self.distillation else self.loss
        value = loss_fn(self.model(inputs), targets)
        self.fabric.backward(value)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if job.scheduler and job.scheduler_every == "step":
            job.scheduler.step()
        loss = value.item()  # an accelerator finishes the step here: honest seconds, and no doubt which step went wrong
        self.step += 1
        if not isfinite(loss):
            raise self._diverged(loss)
        self.loss_sum += loss
        return loss, self._last_update() is not before

    @property
    def _teacher(self) -> str:
        return self.distillation.digest if self.distillation else ""

    def _last_update(self) -> object:
        return self.job.sparsifier.last_update if self.job.sparsifier else None

    def _end_epoch(self, epoch: int, loss: float) -> None:
        job = self.job
        lr = job.optimizer.param_groups[0]["lr"]
        if job.scheduler and job.scheduler_every == "epoch":
            job.scheduler.step()
        self.course.look(epoch + 1)
        accuracy, val_loss = None, None
        if (epoch + 1) % job.evaluate_every == 0 or epoch + 1 == job.epochs:
            accuracy, val_loss = evaluate(job.model, job.data, "val", job.loss, self.fabric)
        self.row = {
            "step": self.step,
            "epoch": epoch + 1,
            "loss": self._share_loss() / job.steps_per_epoch,
            "val_loss": val_loss,
            "val_accuracy": accuracy,
            **exploration(job),
            "lr": float(lr),
            **self.watch.summary(job.steps_per_epoch),
        }
        self.loss_sum = 0.0
        if self.fabric.is_global_zero:
            record.add_row(self.folder, self.row | self.course.row())
        self.harvest.after(self.step, epoch + 1, accuracy)
        self._save()
        self._tell(epoch, loss, self.row)

    def finish(self) -> Record:
        """Touch the test split, once, and write the result."""
        job = self.job
        found = answers(job.model, job.data, "test", self.fabric)
        judged = Judged()
        if found and found[0].dim() == 2:
            judged.predictions("last", found[0].softmax(-1), found[1])
        result = {
            **quality(found),
            "test_loss": job.loss(*found).item() if found else None,
            **{name: self.row[name] for name in ("val_accuracy", "val_loss", "loss")},
            **job.identity,
            "epochs": job.epochs,
            "steps": self.step,
            **final_state(job),
            **self.watch.summary(job.steps_per_epoch),
            "checkpoint_bytes": self.folder.checkpoint.stat().st_size,
            "flops": job.flops and dict(job.flops),
            **self.harvest.judged(judged),
        }
        if self.fabric.is_global_zero:
            if job.sparsifier:
                checkpoint.save(self.folder.topology(self.step), job.sparsifier.topology.pack())
            record.write_json(self.folder.judged, judged.record())
            record.write_json(self.folder.result, result)
        return result

    def _save(self) -> None:
        self._share_loss()
        self.course.look(1 + (self.step - 1) // self.job.steps_per_epoch)
        if self.fabric.is_global_zero:
            here = {
                "loss_sum": self.loss_sum,
                "row": self.row,
                "watch": self.watch.state_dict(),
                "best": self.harvest.best,
                "course": self.course.state_dict(),
                "surroundings": self.surroundings,
                **({"teacher": self._teacher} if self.distillation else {}),
            }
            checkpoint.save(self.folder.checkpoint, content_of(self.job, self.step) | here)
            if self.job.sparsifier and (decision := self.job.sparsifier.decision):
                record.write_json(self.folder.decision, decision)

    def _share_loss(self) -> float:
        """The epoch's loss so far, its mean over ranks, which every rank goes on from: what a checkpoint can hold."""
        total = sum_over_ranks(torch.tensor([self.loss_sum], dtype=torch.float64), self.fabric)
        self.loss_sum = total.item() / self.fabric.world_size
        return self.loss_sum

    def _tell(self, epoch: int, loss: float, row: Record | None = None) -> None:
        if self.fabric.is_global_zero:
            self.tell(Progress(self.step, self.job.total_steps, epoch + 1, self.job.epochs, loss, row))

    def _diverged(self, loss: float) -> RegrowError:
        lr = self.job.optimizer.param_groups[0]["lr"]
        kept = f"The checkpoint {self.folder.checkpoint} is from before it. " if self.folder.checkpoint.exists() else ""
        return RegrowError(
            f"the loss is {loss} at step {self.step} of {self.job.total_steps} (learning rate "
            f"{lr:g}). {kept}Lower the learning rate, add warm-up or clip gradients, and train in another folder."
        )


def reseed(seed: int, step: int, fabric: Fabric) -> None:
    """Make the model's own randomness (dropout) a function of (seed, step, rank): nothing to checkpoint."""
    key = seed_of("step", seed, step, fabric.global_rank)
    torch.default_generator.manual_seed(key)  # torch.manual_seed looks for every kind of device: 100 us a step
    if fabric.device.type == "cuda":
        torch.cuda.manual_seed(key)
