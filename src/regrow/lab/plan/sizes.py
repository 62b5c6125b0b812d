"""How large a data set is. Published sets are known, so that a run on them can be planned where their files are not."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from regrow.core.errors import RegrowError
from regrow.recipe.schema import DataSpec
from regrow.train.data import Data, load
from regrow.train.data.augment import CropFlip
from regrow.train.data.folder import FolderData
from regrow.train.data.tensors import TensorData


@dataclass(frozen=True)
class Published:
    """As its authors have split it: samples to train on and to test on."""

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    augmentation: CropFlip | None = None


KNOWN = {
    "digits": Published((1, 8, 8), 10, 1_437, 360),
    "mnist": Published((1, 28, 28), 10, 60_000, 10_000),
    "fashion_mnist": Published((1, 28, 28), 10, 60_000, 10_000),
    "cifar10": Published((3, 32, 32), 10, 50_000, 10_000, CropFlip(border="reflect")),
    "cifar100": Published((3, 32, 32), 100, 50_000, 10_000, CropFlip()),
    "svhn": Published((3, 32, 32), 10, 73_257, 26_032),
}


@dataclass(frozen=True)
class Sizes:
    """Samples of each split, and the shape [C, ...] of one; `data` to time batches by: random where none were read."""

    shape: tuple[int, ...]
    classes: int
    train: int
    val: int
    test: int
    data: Data | None = None
    augmentation: CropFlip | None = None

    def batches(self, batch_size: int) -> Data:
        """The data, or a few random batches of their kind."""
        return self.data or _random(self, 8 * batch_size)


def sizes_of(spec: DataSpec) -> Sizes:
    """Of the recipe's data. Files are read only where nothing is known of them.

    Raises:
        RegrowError: unknown data whose files are missing.
    """
    known = KNOWN.get(spec.name) or _imagenet(spec.name)
    if known is None:
        return _read(spec)
    held = round(spec.validation * known.train)
    augmentation = known.augmentation if spec.augment else None
    return Sizes(known.shape, known.classes, known.train - held, held, known.test, augmentation=augmentation)


def word_of(name: str) -> str:
    """What the data are called, wherever they are: `imagenet` of `folder:/data/ImageNet:224`."""
    form, _, argument = name.partition(":")
    return _folder(argument)[0].name.lower() if form == "folder" else form


def _folder(argument: str) -> tuple[Path, int]:
    path, _, size = argument.rpartition(":")
    return (Path(path), int(size)) if size.isdecimal() else (Path(argument), 224)


def _imagenet(name: str) -> Published | None:
    """ILSVRC 2012, for a folder of that name that is not here."""
    folder, pixels = _folder(name.partition(":")[2])
    if word_of(name) != "imagenet" or (folder.expanduser() / "train").is_dir():
        return None
    return Published((3, pixels, pixels), 1000, 1_281_167, 50_000)


def _read(spec: DataSpec) -> Sizes:
    data = load(spec.name, validation=spec.validation, augment=spec.augment)
    if not isinstance(data, TensorData | FolderData) or "train" not in data.parts:
        raise RegrowError(f"data set {spec.name!r} has only a test split here: nothing can be trained on it")
    train, val, test = (len(data.parts[part][1]) if part in data.parts else 0 for part in ("train", "val", "test"))
    return Sizes(data.shape, data.classes, train, val, test, data)


def _random(sizes: Sizes, count: int) -> Data:
    inputs = torch.randint(256, (count, prod(sizes.shape)), dtype=torch.uint8).view(count, *sizes.shape)
    part = inputs, torch.arange(count) % sizes.classes
    centre = torch.full((sizes.shape[0], *[1] * (len(sizes.shape) - 1)), 127.5)
    return TensorData("random", sizes.classes, {"train": part, "test": part}, centre, centre, sizes.augmentation)
