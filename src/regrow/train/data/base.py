"""What training asks of data, and the counter-based walk through an epoch that every data set shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.train.data.pixels import Pixels

Batch = tuple[Tensor, Tensor]


class Data(Protocol):
    """A labelled data set. Batch k of epoch e is a pure function of (seed, e, k): training resumes anywhere."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        ...

    @property
    def classes(self) -> int: ...
    @property
    def splits(self) -> tuple[str, ...]:
        """What `evaluate` accepts: "test", and "val" if something was held out."""
        ...

    @property
    def pixels(self) -> Pixels:
        """Between inputs as `train` and `evaluate` give them and pixels in [0, 1]."""
        ...

    def steps(self, batch_size: int) -> int:
        """Optimizer steps per epoch; the last partial batch is left out."""
        ...

    def train(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The batches of one epoch from step `start`; rank r of w yields the r-th of w equal parts of each."""
        ...

    def evaluate(self, split: str, batch_size: int = 1000) -> Iterator[Batch]:
        """All of "val" or "test", in a fixed order, never augmented."""
        ...


@dataclass(frozen=True)
class Request:
    """What `load` was asked for. `argument` is the part of the name after the colon."""

    name: str
    argument: str
    root: Path
    validation: float
    augment: bool


@dataclass(frozen=True)
class Step:
    """One rank's part of a batch: rows `index` [b] and uniform numbers `draws` [b, columns] to augment them with."""

    index: Tensor
    draws: Tensor


def count_steps(size: int, batch_size: int) -> int:
    """Full batches in `size` training samples.

    Raises:
        RegrowError: not even one.
    """
    if not 1 <= batch_size <= size:
        raise RegrowError(f"batch size {batch_size} does not fit {size} training samples; take 1 to {size}")
    return size // batch_size


def walk(
    size: int, columns: int, batch_size: int, seed: int, epoch: int, start: int, rank: int, world: int
) -> Iterator[Step]:
    """The steps of one epoch. Order and draws are made for the whole batch, then cut: w ranks see what one sees.

    Raises:
        RegrowError: the batch does not split into `world` equal parts.
    """
    if batch_size % world:
        raise RegrowError(f"batch size {batch_size} is global and does not divide among {world} processes")
    share = batch_size // world
    mine = slice(rank * share, (rank + 1) * share)
    order = torch.randperm(size, generator=generator("order", seed, epoch))
    for step in range(start, count_steps(size, batch_size)):
        index = order[step * batch_size : (step + 1) * batch_size]
        draws = torch.rand(batch_size, columns, generator=generator("augment", seed, epoch, step))
        yield Step(index[mine], draws[mine])


def hold_out(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(kept, held) sorted positions: `count` of the samples held, each class by its share (largest remainders).

    A function of the labels alone, not of any run's seed: every run on a data set is validated on the same samples.
    """
    n = len(labels)
    shuffled = torch.randperm(n, generator=generator("hold out", n))
    order = shuffled[labels[shuffled].argsort(stable=True)]
    sizes = labels.bincount()
    quota = sizes * count // n
    largest = (sizes * count % n).argsort(descending=True, stable=True)
    quota[largest[: count - int(quota.sum())]] += 1
    within = torch.arange(n) - (sizes.cumsum(0) - sizes)[labels[order]]
    held = within < quota[labels[order]]
    return order[~held].sort().values, order[held].sort().values
