"""A plain vision transformer."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, unfold

from regrow.core.errors import RegrowError
from regrow.train.models import check


def vit(
    shape: tuple[int, ...],
    classes: int,
    patch: int = 4,
    width: int = 256,
    depth: int = 6,
    heads: int = 4,
    ratio: int = 4,
) -> VisionTransformer:
    """Vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), small, for images of 32x32.

    As plain as Beyer et al. (2022, arXiv 2205.01580) have it: no class token, the mean over patches goes to the head.
    """
    channels, rows, columns = check.image("vit", shape, least=patch)
    if rows % patch or columns % patch:
        raise RegrowError(f"vit: patch={patch} does not divide images of {rows}x{columns}; take one that does")
    if width % heads:
        raise RegrowError(f"vit: heads={heads} does not divide width={width}; take a number that does")
    patches = rows // patch * (columns // patch)
    return VisionTransformer(channels * patch**2, patches, classes, patch, width, depth, heads, ratio)


class VisionTransformer(nn.Module):
    """Images [B, C, H, W] -> logits [B, classes]; every weight matrix belongs to a Linear layer."""

    def __init__(
        self, inputs: int, patches: int, classes: int, patch: int, width: int, depth: int, heads: int, ratio: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(inputs, width)
        self.position = nn.Parameter(torch.empty(patches, width).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(width, heads, ratio * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = unfold(images, self.patch, stride=self.patch).transpose(1, 2)  # [B, T, C patch^2]
        x = self.blocks(self.embed(patches) + self.position)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), for x [B, T, width]."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(OrderedDict(fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, width)))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Attention(nn.Module):
    """Multi-head self-attention over x [B, T, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, T, d]
        y: Tensor = self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y
