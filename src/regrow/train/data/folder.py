"""Images in folders, one per class: decoded as they are needed, one batch ahead, in a small pool of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train.data.base import Batch, Request, count_steps, hold_out, walk
from regrow.train.data.pixels import Pixels
from regrow.train.data.tensors import check_split

SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".webp"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
ATTEMPTS = 10  # at a random crop that fits, before the centre is taken
WORKERS = min(8, os.cpu_count() or 1)

Listing = tuple[list[Path], Tensor]
Transform = Callable[[Image.Image, int, Tensor], Image.Image]


@dataclass(frozen=True)
class FolderData:
    """`Data` over image files. Each split is a list of paths and their labels [N]."""

    name: str
    classes: int
    size: int
    parts: dict[str, Listing]
    augment: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(part for part in ("val", "test") if part in self.parts)

    @property
    def pixels(self) -> Pixels:
        mean, std = (255 * torch.tensor(constant).view(-1, 1, 1) for constant in (MEAN, STD))
        return Pixels(mean, std, 0.0, 255.0)

    def steps(self, batch_size: int) -> int:
        return count_steps(len(self.parts["train"][1]), batch_size)

    def train(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        size = len(self.parts["train"][1])
        steps = walk(size, 2 * ATTEMPTS + 3, batch_size, seed, epoch, start, rank, world)
        view = random_view if self.augment else centre_view
        return self._decoded("train", view, ((step.index, step.draws) for step in steps))

    def evaluate(self, split: str, batch_size: int = 1000) -> Iterator[Batch]:
        check_split(self.name, split, self.splits)
        size = len(self.parts[split][1])
        rows = (torch.arange(start, min(start + batch_size, size)) for start in range(0, size, batch_size))
        return self._decoded(split, centre_view, ((index, index) for index in rows))

    def _decoded(self, part: str, view: Transform, steps: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Batch]:
        paths, labels = self.parts[part]
        with ThreadPoolExecutor(WORKERS) as pool:
            waiting: tuple[list[Future[Tensor]], Tensor] | None = None
            for index, draws in steps:
                rows = zip(index.tolist(), draws, strict=True)
                following = [pool.submit(_decode, paths[row], self.size, view, draw) for row, draw in rows]
                if waiting:
                    yield _gathered(*waiting)
                waiting = following, labels[index]
            if waiting:
                yield _gathered(*waiting)


def _gathered(images: list[Future[Tensor]], labels: Tensor) -> Batch:
    x = torch.stack([image.result() for image in images]).permute(0, 3, 1, 2).contiguous()
    mean, std = (255 * torch.tensor(constant).view(-1, 1, 1) for constant in (MEAN, STD))
    return (x - mean).div_(std), labels


def _decode(path: Path, size: int, view: Transform, draw: Tensor) -> Tensor:
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(view(image.convert("RGB"), size, draw)))
    except OSError as error:
        raise RegrowError(f"{path} is not a readable image ({error}); replace or delete it") from error


def random_view(image: Image.Image, size: int, draw: Tensor) -> Image.Image:
    """A crop of .08 to 1 of the area, aspect 3/4 to 4/3, resized; half flipped (Szegedy et al., arXiv 1409.4842)."""
    width, height = image.size
    *tries, left, top, flip = draw.tolist()
    for area, aspect in zip(tries[::2], tries[1::2], strict=True):
        pixels = (0.08 + 0.92 * area) * width * height
        ratio = exp((2 * aspect - 1) * log(4 / 3))
        w, h = round(sqrt(pixels * ratio)), round(sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            image = image.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
            break
    else:
        image = centre_view(image, size, draw)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip < 0.5 else image


def centre_view(image: Image.Image, size: int, _: Tensor) -> Image.Image:
    """The centre 224/256 of the short side, resized; an image that has the size already is taken whole."""
    if image.size == (size, size):
        return image
    width, height = image.size
    side = min(width, height) * 224 / 256
    x, y = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))


def folder(request: Request) -> FolderData:
    """`folder:PATH` or `folder:PATH:SIZE`, with train/ and val/ or test/ inside, as ImageNet and Tiny-ImageNet.

    One labelled folder beside train/ is the test set, and validation is held out of train/; of two, val/ is validation.
    Without SIZE, square images up to 224 keep the size of the first one and others become 224.
    """
    path, _, size = request.argument.rpartition(":")
    root = Path(path if size.isdecimal() else request.argument).expanduser()
    names = sorted(entry.name for entry in root.glob("train/*") if entry.is_dir())
    if not names:
        raise RegrowError(f"{root / 'train'} holds no class folders; `data: digits` needs no files")
    parts = {part: found for part in ("train", "val", "test") if (found := listing(root / part, names))[0]}
    if "train" not in parts or len(parts) == 1:
        raise RegrowError(
            f"{root} needs labelled images in train/ and in val/ or test/; found {', '.join(parts) or 'none'}"
        )
    if "test" not in parts:
        parts["test"] = parts.pop("val")
    if "val" not in parts and (count := round(request.validation * len(parts["train"][1]))):
        paths, labels = parts["train"]
        kept, held = hold_out(labels, count)
        parts["train"], parts["val"] = (([paths[i] for i in rows.tolist()], labels[rows]) for rows in (kept, held))
    pixels = int(size) if size.isdecimal() else _common_size(parts["train"][0][0])
    return FolderData(request.name, len(names), pixels, parts, request.augment)


def listing(root: Path, names: list[str]) -> Listing:
    """The images of one split: in class folders, or as Tiny-ImageNet's val/, named by `val_annotations.txt`."""
    number = {name: i for i, name in enumerate(names)}
    annotations = root / "val_annotations.txt"
    if annotations.is_file():
        rows = (line.split("\t") for line in annotations.read_text().splitlines())
        found = sorted((root / "images" / row[0], number[row[1]]) for row in rows if row[1] in number)
    else:
        found = [
            (p, number[name])
            for name in names
            for p in sorted((root / name).rglob("*"))
            if p.suffix.lower() in SUFFIXES
        ]
    return [path for path, _ in found], torch.tensor([label for _, label in found], dtype=torch.int64)


def _common_size(path: Path) -> int:
    with Image.open(path) as image:
        width, height = image.size
    return width if width == height <= 224 else 224
