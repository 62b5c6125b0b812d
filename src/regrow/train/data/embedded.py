"""Data that needs no files: scikit-learn's digits, and random inputs of any shape."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch

from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.train.data.base import Batch, Request, hold_out
from regrow.train.data.tensors import Arrays, TensorData

SYNTHETIC_TRAIN, SYNTHETIC_TEST = 512, 128


def digits(root: Path) -> Arrays:
    """1437 / 360 handwritten digits, 8x8, in a fixed stratified split (Alpaydin, Kaynak 1998; scikit-learn's copy)."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    pixels, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels).long()
    train, test = hold_out(y, 360)
    return Arrays((x[train], y[train]), (x[test], y[test]), 10)


def synthetic(request: Request) -> TensorData:
    """Random bytes for smoke runs: `synthetic:3x224x224x1000` is the shape, then the number of classes."""
    *shape, classes = _sizes(request)
    return TensorData.of(
        request,
        Arrays(
            train=_random(SYNTHETIC_TRAIN, shape, classes),
            test=_random(SYNTHETIC_TEST, shape, classes),
            classes=classes,
            mean=(127.5,) * shape[0],
            std=(73.9,) * shape[0],  # of a uniform byte
        ),
    )


def _sizes(request: Request) -> list[int]:
    sizes = request.argument.split("x")
    if len(sizes) < 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise RegrowError(f"{request.name!r}: give shape and classes, as in `synthetic:3x32x32x10`")
    return [int(size) for size in sizes]


def _random(count: int, shape: list[int], classes: int) -> Batch:
    """Few distinct inputs, repeated: drawing them all would take longer than the smoke run."""
    distinct = torch.randint(256, (64, prod(shape)), dtype=torch.uint8, generator=generator("synthetic", *shape))
    return distinct.repeat(count // 64, 1).view(count, *shape), torch.arange(count) % classes
