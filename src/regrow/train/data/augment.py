"""Random crop and flip of a whole batch at once: one gather, no loop over samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class CropFlip:
    """Shift by up to `padding` pixels both ways, over a black ("zero") or mirrored ("reflect") border; flip half.

    The usual CIFAR augmentation (He et al. 2015, arXiv 1512.03385, section 4.2).
    """

    padding: int = 4
    border: Literal["zero", "reflect"] = "zero"
    columns = 3  # uniform numbers per sample: vertical shift, horizontal shift, flip

    def __call__(self, x: Tensor, draws: Tensor) -> Tensor:
        """`x` [B, C, H, W] of any dtype and `draws` [B, 3] in [0, 1) to the augmented batch."""
        height, width = x.shape[-2:]
        rows = self._shifted(draws[:, 0], height)
        columns = self._shifted(draws[:, 1], width)
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
        source_rows, source_columns = self._source(rows, height), self._source(columns, width)
        pixel = (source_rows[:, :, None] * width + source_columns[:, None, :]).flatten(1)
        out = x.flatten(2).gather(2, pixel[:, None].expand(-1, x.shape[1], -1)).view(x.shape)
        if self.border == "zero":
            out.masked_fill_((rows != source_rows)[:, None, :, None], 0)
            out.masked_fill_((columns != source_columns)[:, None, None, :], 0)
        return out

    def _shifted(self, uniform: Tensor, size: int) -> Tensor:
        """[B, size] positions along one axis, outside [0, size) where the border shows."""
        shift = (uniform * (2 * self.padding + 1)).long() - self.padding
        return shift[:, None] + torch.arange(size)

    def _source(self, position: Tensor, size: int) -> Tensor:
        last = size - 1
        return last - (last - position.abs()).abs() if self.border == "reflect" else position.clamp(0, last)
