"""What storing and bending does to images. They are [N, C, H, W] in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from regrow.train.data.corruptions.blur import smoothed
from regrow.train.data.corruptions.draws import Draws


def pixelate(x: Tensor, share: float, draws: Draws) -> Tensor:
    """Shrunk to `share` of the size and enlarged again, by boxes."""

    def coarse(image: Image.Image) -> Image.Image:
        small = int(image.width * share), int(image.height * share)
        return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _each(x, coarse)


def jpeg_compression(x: Tensor, quality: int, draws: Draws) -> Tensor:
    """Stored as JPEG of `quality`, in [1, 95], and read again."""

    def stored(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, stored)


def elastic_transform(x: Tensor, level: tuple[float, float, float], draws: Draws) -> Tensor:
    """A random affine map, then displacements alpha G_sigma * U(-1, 1); all lengths are shares of the image's size."""
    height, width = x.shape[-2:]
    size = min(height, width)
    alpha, sigma, corner = (size * share for share in level)
    centre, third = torch.tensor([width // 2, height // 2]).float(), size // 3
    points = centre + third * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = points + draws.uniform(-corner, corner, 3, 2)
    ones = torch.ones(3, 1)
    back = torch.linalg.solve(torch.cat([moved, ones.expand(len(x), 3, 1)], 2), points)  # [N, 3, 2]
    grid = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1).float()
    homogeneous = torch.cat([grid, torch.ones(height, width, 1)], -1)
    x = _sampled(x, torch.einsum("hwk,nkd->nhwd", homogeneous, back), edge=False)
    field = draws.uniform(-1, 1, 2, height, width)
    shift = alpha * smoothed(field, sigma, "symmetric", reach=int(3 * sigma + 0.5))
    return _sampled(x, grid + shift.permute(0, 2, 3, 1), edge=True)


def _sampled(x: Tensor, at: Tensor, edge: bool) -> Tensor:
    """Bilinear values at pixel positions `at` [N, H, W, 2] (right, down), mirrored at the edge or the last pixel."""
    size = torch.tensor([x.shape[3], x.shape[2]])
    position = (2 * at + 1) / size - 1 if edge else 2 * at / (size - 1) - 1
    return grid_sample(x, position, padding_mode="reflection", align_corners=not edge)


def _each(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Every image through Pillow, as bytes; grey ones as grey."""
    stored = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    grey = x.shape[1] == 1
    changed = [np.asarray(change(Image.fromarray(image[:, :, 0] if grey else image))) for image in stored]
    return torch.from_numpy(np.stack(changed)).view(stored.shape).permute(0, 3, 1, 2).float() / 255
