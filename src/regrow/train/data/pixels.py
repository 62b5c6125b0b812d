"""Inputs as a network takes them, and the pixels that they were made from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Pixels:
    """x = (v - mean) / std  of stored values  v = low + (high - low) u,  with pixels u in [0, 1].

    Args:
        mean, std: per channel, shaped to broadcast over x, in units of the stored values.
        low, high: the least and the greatest stored value; 0 and 255 for bytes.
    """

    mean: Tensor
    std: Tensor
    low: float
    high: float

    def of(self, x: Tensor) -> Tensor:
        """Pixels of the inputs x."""
        return ((x * self.std.to(x) + self.mean.to(x) - self.low) / self._range).clamp(0, 1)

    def inputs(self, u: Tensor) -> Tensor:
        """The inputs that the pixels u in [0, 1] are; differentiable."""
        return (u * self._range + self.low - self.mean.to(u)) / self.std.to(u)

    @property
    def _range(self) -> float:
        return (self.high - self.low) or 1.0
