"""Data that fits in memory: tensors kept as stored (uint8 stays uint8), augmented and normalised by the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train.data.augment import CropFlip
from regrow.train.data.base import Batch, Request, count_steps, hold_out, walk
from regrow.train.data.pixels import Pixels


@dataclass(frozen=True)
class Arrays:
    """A data set as read: inputs [N, C, ...] and labels [N] of both splits, before anything is held out.

    Without `train` it is there to be told apart from another one.
    """

    train: Batch | None
    test: Batch
    classes: int
    mean: tuple[float, ...] | None = None  # per channel, in units of the stored values; None: of the training split
    std: tuple[float, ...] | None = None
    augmentation: CropFlip | None = None


@dataclass(frozen=True)
class TensorData:
    """`Data` over tensors in memory."""

    name: str
    classes: int
    parts: Mapping[str, Batch]
    mean: Tensor
    std: Tensor
    augmentation: CropFlip | None

    @classmethod
    def of(cls, request: Request, arrays: Arrays) -> TensorData:
        """Hold out the validation share, then take the statistics from what is left to train on."""
        parts = {"test": arrays.test}
        if arrays.train:
            inputs, labels = parts["train"] = arrays.train
            if held_count := round(request.validation * len(labels)):
                kept, held = hold_out(labels, held_count)
                parts["train"], parts["val"] = (inputs[kept], labels[kept]), (inputs[held], labels[held])
        mean, std = _statistics(arrays, parts.get("train", arrays.test)[0])
        return cls(request.name, arrays.classes, parts, mean, std, arrays.augmentation if request.augment else None)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parts["test"][0].shape[1:])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(part for part in ("val", "test") if part in self.parts)

    @property
    def pixels(self) -> Pixels:
        values = self.parts.get("train", self.parts["test"])[0]
        return Pixels(self.mean, self.std, float(values.min()), float(values.max()))

    def steps(self, batch_size: int) -> int:
        if "train" not in self.parts:
            raise RegrowError(f"data set {self.name!r} has only a test split here: nothing can be trained on it")
        return count_steps(len(self.parts["train"][1]), batch_size)

    def train(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        inputs, labels = self.parts["train"]
        columns = self.augmentation.columns if self.augmentation else 0
        for step in walk(len(labels), columns, batch_size, seed, epoch, start, rank, world):
            x = inputs[step.index]
            if self.augmentation:
                x = self.augmentation(x, step.draws)
            yield self._normalised(x), labels[step.index]

    def evaluate(self, split: str, batch_size: int = 1000) -> Iterator[Batch]:
        check_split(self.name, split, self.splits)
        inputs, labels = self.parts[split]
        for start in range(0, len(labels), batch_size):
            rows = slice(start, start + batch_size)
            yield self._normalised(inputs[rows]), labels[rows]

    def _normalised(self, x: Tensor) -> Tensor:
        return (x - self.mean).div_(self.std)


def check_split(name: str, split: str, valid: tuple[str, ...]) -> None:
    """Raises RegrowError unless `split` can be evaluated on."""
    if split not in valid:
        way_out = "; load with validation > 0 to hold some out" if split == "val" else ""
        raise RegrowError(f"data set {name!r} has no split {split!r} (it has: {', '.join(valid)}){way_out}")


def _statistics(arrays: Arrays, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, shaped to broadcast over [B, C, ...]; a constant channel gets std 1."""
    broadcast = (-1, *(1 for _ in inputs.shape[2:]))
    if arrays.mean is not None and arrays.std is not None:
        return torch.tensor(arrays.mean).view(broadcast), torch.tensor(arrays.std).view(broadcast)
    others = [axis for axis in range(inputs.dim()) if axis != 1]
    std, mean = torch.std_mean(inputs.double(), dim=others, correction=0)
    std = torch.where(std > 0, std, 1.0)
    return mean.float().view(broadcast), std.float().view(broadcast)
