"""Weather and light. Images are [N, C, H, W] in [0, 1] before; the caller clips after."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.train.data.corruptions.blur import quantised, smeared, zoomed
from regrow.train.data.corruptions.draws import Draws

GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def snow(x: Tensor, level: tuple[float, float, float, float, int, float, float], draws: Draws) -> Tensor:
    """A whitened image under flakes: thresholded Gaussian noise, enlarged, smeared downwards, and turned around too."""
    mean, std, zoom, threshold, radius, sigma, share = level
    flakes = zoomed(mean + std * draws.normal(1, *x.shape[2:]), zoom)
    flakes = quantised(torch.where(flakes < threshold, 0.0, flakes))
    flakes = quantised(smeared(flakes, radius, sigma, angle=draws.uniform(-135, -45)))
    grey = (x * GREY).sum(1, keepdim=True) if x.shape[1] == 3 else x
    x = share * x + (1 - share) * torch.maximum(x, 1.5 * grey + 0.5)
    return x + flakes + flakes.flip(2, 3)


def fog(x: Tensor, level: tuple[float, float], draws: Draws) -> Tensor:
    """(x + thickness plasma) max x / (max x + thickness)."""
    thickness, decay = level
    highest = x.amax((1, 2, 3), keepdim=True)
    height, width = x.shape[-2:]
    clouds = plasma(1 << (max(height, width) - 1).bit_length(), decay, draws)[:, None, :height, :width]
    return (x + thickness * clouds) * highest / (highest + thickness)


def brightness(x: Tensor, more: float, draws: Draws) -> Tensor:
    """The value V of hue, saturation and value becomes min(V + more, 1)."""
    value = x.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x / value.clamp_min(1e-12) * brighter, brighter)


def saturate(x: Tensor, level: tuple[float, float], draws: Draws) -> Tensor:
    """The saturation S becomes factor S + offset, in [0, 1]; a grey pixel has the hue of red."""
    factor, offset = level
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = value - least
    red = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1).expand_as(x)
    shade = torch.where(spread > 0, (value - x) / spread.clamp_min(1e-12), red)
    saturation = (factor * spread / value.clamp_min(1e-12) + offset).clamp(0, 1)
    return value * (1 - saturation * shade)


def contrast(x: Tensor, factor: float, draws: Draws) -> Tensor:
    """mean + factor (x - mean), with the mean of each channel of the image."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + factor * (x - mean)


def plasma(size: int, decay: float, draws: Draws) -> Tensor:
    """Fractal clouds in [0, 1], [N, size, size], wrapped around: diamond-square (Fournier et al. 1982).

    Every point halfway between four known ones is their mean plus w^2 U(-1, 1); w begins at 100 and falls by `decay`
    each time the distance halves. `size` is a power of two.
    """
    field = torch.zeros(len(draws), size, size)
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        count = corners.shape[1]
        field[:, half::step, half::step] = _jittered(corners + _both(corners), wobble, draws, count)
        centres = field[:, half::step, half::step]
        across = corners + corners.roll(-1, 2) + centres + centres.roll(1, 1)
        down = corners + corners.roll(-1, 1) + centres + centres.roll(1, 2)
        field[:, ::step, half::step] = _jittered(across, wobble, draws, count)
        field[:, half::step, ::step] = _jittered(down, wobble, draws, count)
        step, wobble = half, wobble / decay
    field -= field.amin((1, 2), keepdim=True)
    return field / field.amax((1, 2), keepdim=True).clamp_min(1e-12)


def _both(corners: Tensor) -> Tensor:
    """The other three corners of each square."""
    return corners.roll(-1, 1) + corners.roll(-1, 2) + corners.roll((-1, -1), (1, 2))


def _jittered(total: Tensor, wobble: float, draws: Draws, count: int) -> Tensor:
    return total / 4 + wobble * draws.uniform(-wobble, wobble, count, count)
