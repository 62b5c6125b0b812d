"""A sparse linear layer, forward and backward with autograd included, against F.linear: 1024 x 1024, times as ratios.

python -m benchmarks.kernels.linear [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, Task, paired, report
from torch import Tensor
from torch.nn.functional import linear

from regrow.execution import native
from regrow.execution.index import Index
from regrow.execution.ops import lanes, sparse_linear

SIDE = 1024
LIMITS = {0.9: 1 / 5, 0.95: 1 / 10, 0.98: 1 / 18}
BATCHES = {128: 8, 512: 2}  # batch -> calls a turn


def both_ways(inputs: tuple[Tensor, ...], forward: Task, grad: Tensor) -> Task:
    """Forward and backward as a training step does them: fresh gradients of input, weight and bias."""
    for tensor in inputs:
        tensor.requires_grad_()

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        forward().backward(grad)  # type: ignore[attr-defined]

    return run


def compare(batch: int, sparsity: float, in_lanes: bool) -> Comparison:
    """Input and output gradient in lanes, as inside a chain of sparse layers, or in rows, as at its ends."""
    mask = torch.rand(SIDE * SIDE) >= sparsity
    index = Index.of(mask.nonzero().squeeze(1), (SIDE, SIDE))
    weight, bias = torch.randn(SIDE, SIDE) / SIDE**0.5, torch.zeros(SIDE)
    x, grad = torch.randn(batch, SIDE), torch.randn(batch, SIDE)
    ours = (lanes(x).clone() if in_lanes else x.clone(), weight.flatten()[mask], bias.clone())
    theirs = (x, weight, bias)
    return paired(
        f"{SIDE} x {SIDE}, batch {batch}, {sparsity:.0%}, {'lanes' if in_lanes else 'rows'}, {native.isa()}",
        both_ways(ours, lambda: sparse_linear(*ours, index), lanes(grad) if in_lanes else grad),
        both_ways(theirs, lambda: linear(*theirs), grad),
        LIMITS[sparsity],
        calls=BATCHES[batch],
    )


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        cells = [compare(b, s, form) for form in (True, False) for b in BATCHES for s in LIMITS]
        report("sparse_linear", cells)
