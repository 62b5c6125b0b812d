"""Ten seconds of the run's own steps on this machine: dense, masked and sparse in turn, on random inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from regrow.core.distributions import Distribution
from regrow.lab.machine import Neighbours, machine
from regrow.lab.paired import Task, in_turn
from regrow.lab.plan.draft import Draft
from regrow.methods.base import Method
from regrow.recipe.build import model_of, sparsifier_of
from regrow.recipe.optim import optimizer_of, scheduler_of
from regrow.train.data import Batch, Data
from regrow.train.devices import launched, threads
from regrow.train.loop import reseed
from regrow.train.models.members import Members, each
from regrow.train.record import Record

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BUDGET = 10.0
"""Seconds, of all about."""

_NEVER = 10**9
_TURN = 0.03
_RATE = 1e-5
"""Of learning: weights stay as they are, whatever the number of steps."""


@dataclass(frozen=True)
class Way:
    """How a run is executed: None for dense, and the densities that it has on the average."""

    draft: Draft
    backend: str | None


@dataclass(frozen=True)
class Speed:
    """Seconds of a step with its batch, of what an update takes besides, and of a forward pass of one sample."""

    step: float
    update: float
    forward: float

    def training(self, steps: int, updates: int) -> float:
        """Of a run, as its record counts them: without evaluation and writing."""
        return steps * self.step + updates * self.update


@dataclass(frozen=True)
class Calibration:
    """In the order of the ways. `batch` is that of the steps taken; a smaller one than the recipe's was scaled up."""

    speeds: list[Speed]
    batch: int
    where: Record
    busy: str


def calibrate(ways: Sequence[Way]) -> Calibration:
    """Take steps of each way in turn, in this process."""
    recipe = ways[0].draft.recipe
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(threads(recipe.threads))
        fabric = stack.enter_context(launched(precision=recipe.precision))
        neighbours = Neighbours()
        trials = [Trial(way, fabric) for way in ways]
        batch = _affordable(trials)
        speeds = _speeds(trials, recipe.batch_size / batch)
        return Calibration(speeds, batch, machine(), neighbours.warning())


def _affordable(trials: Sequence[Trial]) -> int:
    """The recipe's batch, or a smaller one whose steps fit the budget; all trials take it."""
    most, batch, limit = trials[0].batch_size, 2, BUDGET / (20 * len(trials))
    while True:
        batch = min(batch, most)
        for trial in trials:
            trial.take(batch)
        if batch == most or 4 * _seconds(trials[0].step) > limit:
            return batch
        batch *= 4


def _speeds(trials: Sequence[Trial], scale: float) -> list[Speed]:
    step = _medians([trial.step for trial in trials], share=0.5)
    settled = [median(trial.settling) for trial in trials]
    updates = [trial.update for trial in trials if trial.updates]
    moved = iter(_medians(updates, share=0.25) if updates else [])
    forward = _medians([trial.forward for trial in trials], share=0.1)
    found = []
    for trial, whole, fixed, seen in zip(trials, step, settled, forward, strict=True):
        update = max(0.0, next(moved) - whole) if trial.updates else 0.0
        found.append(Speed(fixed + scale * (whole - fixed), update, seen / trial.taken))
    return found


def _medians(tasks: Sequence[Task], share: float) -> list[float]:
    """Seconds of each, within about this share of the budget."""
    once = [_seconds(task) for task in tasks]
    calls = max(1, round(_TURN / max(once)))
    rounds = max(2, min(21, int(share * BUDGET / (calls * sum(once)))))
    return [median(seconds) for seconds in in_turn(tasks, rounds, calls)]


def _seconds(task: Task) -> float:
    """The better of two, after one to warm up: a moment's pause is not the task's."""
    seconds = []
    for _ in range(3):
        start = perf_counter()
        task()
        seconds.append(perf_counter() - start)
    return min(seconds[1:])


class Trial:
    """A run of the recipe's model that takes steps as the training loop does, and updates when they are asked for."""

    def __init__(self, way: Way, fabric: Fabric) -> None:
        draft, recipe = way.draft, way.draft.recipe
        self.batch_size, self._fabric, self._draft, self._done = recipe.batch_size, fabric, draft, 0
        self._data: Data = draft.sizes.batches(recipe.batch_size)
        self.settling: list[float] = []
        """Seconds of what does not grow with the batch: optimizer and schedule."""
        model = model_of(recipe, draft.sizes.shape, draft.sizes.classes)
        optimizer = optimizer_of(recipe.optimizer, model)
        for group in optimizer.param_groups:
            group["lr"] = _RATE
        self._scheduler = scheduler_of(recipe, optimizer, draft.steps_per_epoch, draft.plan)
        self._sparsifier = None
        if way.backend and draft.method:
            plain = recipe.model_copy(update={"backend": way.backend, "overrides": {}})
            start, method = _fixed(draft), _unmoved(draft.method)
            self._sparsifier = sparsifier_of(plain, method, model, optimizer, start, 0, total_steps=10 * _NEVER)
        self.updates = self._sparsifier is not None and bool(draft.moves)
        self._fraction = fmean(move.fraction for move in draft.moves) if draft.moves else 0.0
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self._loss: Any = each(criterion) if isinstance(model, Members) else criterion
        self._model, self._optimizer = fabric.setup(model, optimizer)

    def take(self, batch: int) -> None:
        """From now on, batches of this size."""
        self.taken, self._batches = batch, _endless(self._data, batch)
        self.settling.clear()

    def step(self) -> None:
        """A batch, forward, backward, optimizer, schedule."""
        inputs, targets = (part.to(self._fabric.device) for part in next(self._batches))
        self._done += 1
        reseed(0, self._done, self._fabric)
        loss = self._loss(self._model(inputs), targets)
        self._fabric.backward(loss)
        start = perf_counter()
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._scheduler.step()
        self.settling.append(perf_counter() - start)
        loss.item()

    def update(self) -> None:
        """A step with a topology update of the usual size."""
        if self._sparsifier and self._fraction:
            self._sparsifier.explore(self._fraction)
        self.step()

    @torch.no_grad()
    def forward(self) -> None:
        """What evaluation does with a batch."""
        inputs, _ = next(self._batches)
        self._model.eval()
        self._model(inputs.to(self._fabric.device)).sum().item()
        self._model.train()


def _endless(data: Data, batch: int) -> Iterator[Batch]:
    for epoch in count():
        yield from data.train(batch, 0, epoch)


def _fixed(draft: Draft) -> Distribution:
    """The densities that the run has on the average, wherever its method would begin."""
    return lambda shapes, density: {name: draft.mean[name] for name in shapes}


def _unmoved(method: Method) -> Method:
    """It updates when it is told to."""
    if method.every is None:
        return method
    still: Method = replace(method, every=replace(method.every, interval=_NEVER))  # type: ignore[type-var]
    return still


def evaluation(draft: Draft, speed: Speed) -> float:
    """Seconds of judging: the validation split after every epoch; at the end the test split, also by every ticket."""
    tickets = len(draft.tickets) + (draft.recipe.average is not None)
    samples = draft.recipe.total_epochs * draft.sizes.val + (1 + tickets) * draft.sizes.test
    return samples * speed.forward
