"""Inputs other than those a model was trained for: another data set, corrupted ones, attacked ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.lab.evaluation.asked import NOISE
from regrow.metrics.adversarial import Attack, Predict
from regrow.train.data import Data, load
from regrow.train.data.base import Batch
from regrow.train.data.corruptions import CORRUPTIONS, corrupt, fits
from regrow.train.data.fetch import default_root
from regrow.train.data.official import cifar_c, imagenet_c


def outside(name: str, inside: Data, split: str, root: Path | None) -> Iterator[Batch]:
    """Another data set's test images, as the model of `inside` takes them, or as much noise as `inside` has samples.

    Noise: every pixel N(.5, 1), clipped to [0, 1] (Liang et al. 2018, arXiv:1706.02690).

    Raises:
        RegrowError: missing data, or inputs of another shape.
    """
    if name == NOISE:
        for number, (x, y) in enumerate(inside.evaluate(split)):
            pixels = torch.randn(x.shape, generator=generator("noise", number)).add_(0.5).clamp_(0, 1)
            yield inside.pixels.inputs(pixels), torch.zeros_like(y)
        return
    other = load(name, validation=0.0, augment=False, root=root)
    if other.shape != inside.shape:
        raise RegrowError(
            f"{name!r} has inputs of shape {other.shape} and {inside.name!r} of {inside.shape}: a model of one cannot "
            "be asked about the other. Take another --ood"
        )
    for x, y in other.evaluate("test"):
        yield inside.pixels.inputs(other.pixels.of(x)), y


def corrupted(kind: str, severity: int, data: Data, split: str, root: Path | None) -> Iterator[Batch] | None:
    """The images of `split` under a kind of corruption: the official files of the test split where there are any, else
    computed here; None where neither can be."""
    if split == "test" and (official := _official(kind, severity, data, root or default_root())) is not None:
        return official
    return _computed(kind, severity, data, split) if kind in CORRUPTIONS and fits(kind, data.shape) else None


def _official(kind: str, severity: int, data: Data, root: Path) -> Iterator[Batch] | None:
    if data.name.startswith("folder:"):
        return imagenet_c(root, kind, severity, data.classes, data.shape[-1])
    found = cifar_c(root, data.name, kind, severity)
    if found is None:
        return None
    rows = zip(torch.split(found[0], 1000), torch.split(found[1], 1000), strict=True)
    return ((data.pixels.inputs(images.float() / 255), labels) for images, labels in rows)


def _computed(kind: str, severity: int, data: Data, split: str) -> Iterator[Batch]:
    first = 0
    for x, y in data.evaluate(split):
        pixels = corrupt(data.pixels.of(x), kind, severity, range(first, first + len(x)))
        yield data.pixels.inputs(pixels), y
        first += len(x)


def attacked(attack: Attack, predict: Predict, data: Data, split: str) -> tuple[Tensor, Tensor]:
    """What `predict`, from inputs, makes of inputs moved against itself: probabilities [N, C] and labels [N]."""
    pixels = data.pixels

    def seen(u: Tensor) -> Tensor:
        return predict(pixels.inputs(u))

    found = []
    for x, y in data.evaluate(split):
        moved = attack(seen, pixels.of(x), y)
        with torch.no_grad():
            found.append((seen(moved), y))
    return torch.cat([p for p, _ in found]), torch.cat([y for _, y in found])
