"""A sparse training step with bfloat16 activations against a dense one, both under autocast; wide layers beside it.

python -m benchmarks.training.bf16_step [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.kernels.linear import both_ways
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.sparse_step import CASES
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

import regrow
from regrow.execution.index import Index
from regrow.execution.ops import lanes, sparse_linear

STEP, WIDE = 3.0, 4.0
"""Times as fast as dense in bfloat16 at 95 %: the step of an MLP 784-1024-1024-10, batch 128; one wide layer."""


def step_of(x: Tensor, y: Tensor, sparsity: float) -> Task:
    """One step of the loop a user writes: SGD with momentum, RigL each 100 steps unless dense."""
    torch.manual_seed(0)
    model = CASES["small"].make()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    if sparsity:
        regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity, total_steps=10**6, backend="sparse")

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(sparsity: float = 0.95) -> Comparison:
    """A turn is 100 steps, so that each holds one update."""
    x, y = CASES["small"].batch()
    name = f"MLP 784-1024-1024-10, batch 128, {sparsity:.0%}, bf16 autocast"
    return paired(name, step_of(x, y, sparsity), step_of(x, y, 0.0), 1 / STEP, rounds=31, calls=100)


def wide(side: int, batch: int, sparsity: float = 0.95) -> Comparison:
    """A layer whose activations outgrow the cache."""
    mask = torch.rand(side * side) >= sparsity
    index = Index.of(mask.nonzero().squeeze(1), (side, side))
    weight, bias = torch.randn(side, side) / side**0.5, torch.zeros(side)
    x, grad = torch.randn(batch, side).bfloat16(), torch.randn(batch, side).bfloat16()
    ours, theirs = (lanes(x).clone(), weight.flatten()[mask], bias.clone()), (x, weight, bias)

    def dense() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return linear(*theirs)

    return paired(
        f"{side} x {side}, batch {batch}, {sparsity:.0%}, bf16",
        both_ways(ours, lambda: sparse_linear(*ours, index), lanes(grad)),
        both_ways(theirs, dense, grad),
        1 / WIDE,
        rounds=7,
    )


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("bf16_step", [compare(), wide(4096, 128), wide(8192, 128)])
