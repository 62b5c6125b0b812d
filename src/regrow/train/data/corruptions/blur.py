"""Blur. Images are [N, C, H, W] in [0, 1]."""

from __future__ import annotations

from math import ceil
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

from regrow.train.data.corruptions.draws import Draws

Border = Literal["edge", "reflect", "symmetric"]  # numpy's names


def gaussian_blur(x: Tensor, sigma: float, draws: Draws) -> Tensor:
    """Convolution with a Gaussian of `sigma` pixels, cut at 4 sigma, beyond the edge its last pixel."""
    return smoothed(x, sigma)


def defocus_blur(x: Tensor, level: tuple[float, float], draws: Draws) -> Tensor:
    """Convolution with a disk of a radius in pixels, its rim smoothed by a 3x3 Gaussian of a sigma."""
    radius, sigma = level
    reach = ceil(radius) + 1
    at = torch.arange(-reach, reach + 1.0)
    disk = ((at[:, None] ** 2 + at**2) <= radius**2).float()
    return filtered(x, smoothed((disk / disk.sum())[None, None], sigma, reach=1)[0, 0], "reflect")


def glass_blur(x: Tensor, level: tuple[float, int, int], draws: Draws) -> Tensor:
    """Blurred, each inner pixel replaced by one up to `reach` to its upper left, `times` over, and blurred again.

    The paper speaks of swapping; the published images were made by copying (a swap of NumPy views), and so are these.
    """
    sigma, reach, times = level
    x = quantised(smoothed(x, sigma)).permute(0, 2, 3, 1)
    rows, columns = (torch.arange(size) for size in x.shape[1:3])
    inside = (_inner(rows, reach)[:, None] & _inner(columns, reach)).long()
    everyone = torch.arange(len(x))[:, None, None]
    for _ in range(times):
        up, left = (draws.uniform(-reach, reach, *inside.shape).floor().long() * inside for _ in range(2))
        x = x[everyone, rows[:, None] + up, columns + left]
    return smoothed(x.permute(0, 3, 1, 2), sigma)


def _inner(position: Tensor, reach: int) -> Tensor:
    return (position > reach) & (position <= len(position) - reach)


def motion_blur(x: Tensor, level: tuple[int, float], draws: Draws) -> Tensor:
    """A one-sided Gaussian along a line of a random angle in [-45, 45] degrees."""
    return smeared(x, *level, angle=draws.uniform(-45, 45))


def zoom_blur(x: Tensor, most: float, draws: Draws) -> Tensor:
    """The mean of x and of its centre enlarged 1, 1.01, ... times, below `most`."""
    factors = np.arange(1, most, 0.01).tolist()
    return (x + torch.stack([zoomed(x, factor) for factor in factors]).sum(0)) / (len(factors) + 1)


def smoothed(x: Tensor, sigma: float, border: Border = "edge", reach: int | None = None) -> Tensor:
    """Convolution with a Gaussian of `sigma` pixels that ends after `reach` of them, by default after 4 sigma."""
    reach = int(4 * sigma + 0.5) if reach is None else reach
    if not reach:
        return x
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / sigma) ** 2)
    line /= line.sum()
    return filtered(filtered(x, line[None], border), line[:, None], border)


def filtered(x: Tensor, kernel: Tensor, border: Border) -> Tensor:
    """Each channel correlated with `kernel` [h, w], of odd sizes."""
    above, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (above, above), (left, left)), border)
    n, c = x.shape[:2]
    return conv2d(torch.from_numpy(padded).flatten(0, 1)[:, None], kernel[None, None]).view(n, c, *x.shape[2:])


def smeared(x: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """sum_i k_i x(p + i d) with k_i ~ exp(-i^2 / 2 sigma^2), i = 0..2 radius, in whole pixels along `angle` [N]."""
    taps = torch.arange(2 * radius + 1.0)
    weights = torch.exp(-0.5 * (taps / sigma) ** 2)
    weights /= weights.sum()
    direction = torch.stack([angle.deg2rad().sin(), angle.deg2rad().cos()])  # down, right
    shifts = (direction[..., None] * taps - 0.5).ceil().long()
    height, width = x.shape[-2:]
    everyone = torch.arange(len(x))[:, None, None]
    out = torch.zeros_like(x)
    for (down, right), weight in zip(shifts.permute(2, 0, 1), weights, strict=True):
        rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
        columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1)
        out += weight * x.permute(0, 2, 3, 1)[everyone, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return out


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The centre of x, enlarged to the size of x: bilinear, corner to corner."""
    height, width = x.shape[-2:]
    h, w = ceil(height / factor), ceil(width / factor)
    top, left = (height - h) // 2, (width - w) // 2
    size = round(h * factor), round(w * factor)
    large = interpolate(x[:, :, top : top + h, left : left + w], size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width]


def quantised(x: Tensor) -> Tensor:
    """As the bytes that an image is stored in, in [0, 1]."""
    return (x.clamp(0, 1) * 255 + 1e-4).floor_() / 255  # what is a whole number of bytes up to rounding stays it
