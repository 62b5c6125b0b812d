"""What truly sparse execution gains: a training step on backend="sparse" against a plain dense one at its best.

python -m benchmarks.training.sparse_step [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.masked_step import best_dense, step_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.train import models

TARGETS = {0.9: 4.5, 0.95: 7.5, 0.98: 11.0}
"""Sparsity -> how many times faster than dense: MLP 784-1024-1024-10, batch 128, SGD momentum, RigL each 100 steps."""


def mlp() -> nn.Module:
    return models.build("mlp", shape=(1, 28, 28))


def sparse_step(x: Tensor, y: Tensor, sparsity: float) -> Task:
    """One step of the loop a user writes; RigL's updates fall where they do, and are paid for."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity, total_steps=10**6, backend="sparse")

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(sparsity: float, target: float) -> Comparison:
    """A turn is 100 steps, so that each holds one update."""
    x, y = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
    loop, lanes = best_dense(mlp, x, y)
    theirs = step_of(mlp, x, y, loop, lanes, 0.0)
    name = f"MLP 784-1024-1024-10, batch 128, {sparsity:.0%} ({loop})"
    return paired(name, sparse_step(x, y, sparsity), theirs, 1 / target, rounds=11, calls=100)


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("sparse_step", [compare(sparsity, target) for sparsity, target in TARGETS.items()])
