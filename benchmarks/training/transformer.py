"""What truly sparse execution gains a vision transformer: a training step on backend="sparse" against a dense one.

32x32 images, patch 4, width 256, depth 6, 4 heads, MLP ratio 4, batch 64, AdamW; every Linear is sparse, all
to the same density. A turn is one step, without an update of the topology: see sparse_step.py for those.

python -m benchmarks.training.transformer [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.masked_step import LOOPS, seconds
from torch import Tensor
from torch.nn.functional import cross_entropy

import regrow
from regrow.train import models

TARGETS = {0.9: 1.5, 0.95: 2.0, 0.98: 2.5}
"""Sparsity -> how many times faster than dense."""


def step_of(x: Tensor, y: Tensor, loop: str, sparsity: float) -> Task:
    """A training step; dense at sparsity 0."""
    torch.manual_seed(0)
    model = models.build("vit", (3, 32, 32))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, **LOOPS[loop])
    if sparsity:
        setup = {"topology": "uniform", "total_steps": 10**6, "every": 100}
        regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity, backend="sparse", **setup)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def best_dense(x: Tensor, y: Tensor) -> str:
    """PyTorch at its best: which optimizer loop."""

    def quickest(loop: str) -> float:
        step = step_of(x, y, loop, 0.0)
        step()
        return min(seconds(step) for _ in range(3))

    return min(LOOPS, key=quickest)


def compare(sparsity: float, target: float, loop: str, x: Tensor, y: Tensor) -> Comparison:
    theirs = step_of(x, y, loop, 0.0)
    name = f"ViT 6 x 256, batch 64, AdamW, {sparsity:.0%} ({loop})"
    return paired(name, step_of(x, y, "fused", sparsity), theirs, 1 / target, rounds=11)


if __name__ == "__main__":
    x, y = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        loop = best_dense(x, y)
        report("transformer", [compare(sparsity, target, loop, x, y) for sparsity, target in TARGETS.items()])
