"""A sparse run of a dozen steps with all that could break resumption: conv, BatchNorm, dropout, augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import regrow
from regrow.core.rng import generator
from regrow.train.job import Job


class Images:
    """Random 8x8 images of four classes, flipped and shifted anew in every step."""

    name, shape, classes, splits = "images", (1, 8, 8), 4, ("val", "test")

    def __init__(self) -> None:
        self.targets = torch.arange(160) % 4
        bright = nn.functional.one_hot(2 * self.targets, 8)[:, None, None, :]
        self.inputs = torch.randn(160, 1, 8, 8, generator=generator("images")) + 2.0 * bright

    def steps(self, batch_size: int) -> int:
        return 96 // batch_size

    def train(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(96, generator=generator("order", seed, epoch))
        for step in range(start, self.steps(batch_size)):
            batch = order[step * batch_size : (step + 1) * batch_size]
            draw = generator("augment", seed, epoch, step)
            flip = torch.rand(batch_size, generator=draw)[:, None, None, None] < 0.5
            shift = int(torch.randint(-1, 2, (), generator=draw))
            inputs = self.inputs[batch].roll(shift, 2)
            inputs = torch.where(flip, inputs.flip(2), inputs)
            share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
            yield inputs[share], self.targets[batch][share]

    def evaluate(self, split: str, batch_size: int = 16) -> Iterator[tuple[Tensor, Tensor]]:
        first = 96 if split == "val" else 128
        for at in range(first, first + 32, batch_size):
            yield self.inputs[at : at + batch_size], self.targets[at : at + batch_size]


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 4),
    )


def small_mlp(seed: int = 0) -> nn.Module:
    """All that the sparse backend runs, wide enough for two threads."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 4),
    )


def small_job(seed: int = 3, method: str = "rigl-itop", backend: str = "masked", **changes: Any) -> Job:
    """12 steps, updates after steps 3, 6 and 9, checkpoints after 4, 6, 8 and 12."""
    model = small_model() if backend == "masked" else small_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    epochs = changes.pop("epochs", 2)
    every = None if method == "static" else 3
    topology = {"method": method, "density": 0.2, "every": every, "seed": seed, "backend": backend}
    job = {
        "sparsifier": regrow.sparsify(model, optimizer, total_steps=6 * epochs, **topology),
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6 * epochs),
        "scheduler_every": "step",
        "checkpoint_every": 4,
        "threads": 1,
    }
    return Job(model, optimizer, Images(), nn.CrossEntropyLoss(), epochs, 16, seed, **job | changes)
