"""Randomness of a corruption: a function of (seed, kind, severity, image), so that no batching changes an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from regrow.core.rng import generator


class Draws:
    """One stream per image; each call takes the next numbers of every stream.

    Args:
        key: what the streams are a function of, beside the image.
        images: their numbers in the data set, [N].
    """

    def __init__(self, key: Sequence[int | str], images: Sequence[int]) -> None:
        self._streams = [generator(*key, image) for image in images]

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), [N, *shape]."""
        return self._each(lambda stream: torch.randn(shape, generator=stream))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """U(low, high), [N, *shape]."""
        return self._each(lambda stream: torch.rand(shape, generator=stream)) * (high - low) + low

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts of mean `rate`, [N, ...]."""
        return torch.stack([torch.poisson(r, generator=s) for r, s in zip(rate, self._streams, strict=True)])

    def _each(self, draw: Callable[[Generator], Tensor]) -> Tensor:
        return torch.stack([draw(stream) for stream in self._streams])
