"""CIFAR-C's corruptions as they are defined (Hendrycks and Dietterich 2019, arXiv:1903.12261), computed here.

The severities are those of the published CIFAR-10-C images. What needs more than torch, numpy and Pillow (frost is made
of photographs, spatter of OpenCV's edges) comes from the official files only: see `official`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regrow.core.errors import RegrowError, choose
from regrow.train.data.corruptions import blur, digital, noise, weather
from regrow.train.data.corruptions.blur import quantised
from regrow.train.data.corruptions.draws import Draws

SEVERITIES = (1, 2, 3, 4, 5)
LARGEST = 64  # pixels: the constants are for small images; ImageNet-C has others


@dataclass(frozen=True)
class Corruption:
    """A kind: (images, level, draws) -> images, and its level at each of the five severities."""

    apply: Callable[[Tensor, Any, Draws], Tensor]
    levels: tuple[Any, Any, Any, Any, Any]
    colour: bool = False  # makes no sense of grey images


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(noise.shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": Corruption(noise.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Corruption(blur.motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Corruption(blur.zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": Corruption(
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": Corruption(weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(weather.brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(weather.contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": Corruption(
        digital.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": Corruption(digital.jpeg_compression, (80, 65, 58, 50, 40)),
    "speckle_noise": Corruption(noise.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Corruption(blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "saturate": Corruption(weather.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), colour=True),
}

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # published for validation, not in the mean
STANDARD = (*(kind for kind in CORRUPTIONS if kind not in EXTRA), "frost")  # the 15 of cAcc, cNLL, cECE


def fits(kind: str, shape: tuple[int, ...]) -> bool:
    """Whether images of `shape` [C, H, W] can be corrupted by a kind in `CORRUPTIONS` here."""
    if len(shape) != 3 or shape[0] not in (1, 3) or max(shape[1:]) > LARGEST:
        return False
    return shape[0] == 3 or not CORRUPTIONS[kind].colour


def corrupt(x: Tensor, kind: str, severity: int, images: Sequence[int], seed: int = 0) -> Tensor:
    """Images [N, C, H, W] with pixels in [0, 1], corrupted; in 256 levels, as the official files store them.

    Args:
        kind: in `CORRUPTIONS`.
        severity: 1 to 5.
        images: their numbers in the data set, [N]: what is random is a function of (seed, kind, severity, number).

    Raises:
        RegrowError: an unknown kind or severity, no images or too large ones, grey ones where colour is changed.
    """
    found = choose(CORRUPTIONS, kind, "corruption")
    if severity not in SEVERITIES:
        raise RegrowError(f"severity = {severity}: the published ones are 1 to 5")
    if x.dim() != 4 or x.shape[1] not in (1, 3) or len(images) != len(x) or not x.is_floating_point():
        raise RegrowError(
            f"corruptions are of images [N, 1 or 3, H, W] in [0, 1] with a number each; got {x.dtype} "
            f"{tuple(x.shape)} and {len(images)} numbers"
        )
    if max(x.shape[2:]) > LARGEST:
        raise RegrowError(
            f"images of {x.shape[2]}x{x.shape[3]}: CIFAR-C's severities are for up to {LARGEST}x{LARGEST}; larger "
            "ones come from the official ImageNet-C files"
        )
    if found.colour and x.shape[1] == 1:
        raise RegrowError(f"{kind!r} changes colours, and these images are grey; leave it out")
    corrupted: Tensor = found.apply(x, found.levels[severity - 1], Draws(("corrupt", seed, kind, severity), images))
    return quantised(corrupted)
