"""A sparse linear layer, forward and backward with autograd included, against F.linear: 1024 x 1024, times as ratios.

python -m benchmarks.kernels.linear [THREADS ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from benchmarks.paired import Comparison, Task, paired, report
from torch import Tensor
from torch.nn.functional import linear

from regrow.execution import native
from regrow.execution.index import Index
from regrow.execution.ops import lanes, sparse_linear

SIDE = 1024
LIMITS = {0.9: 1 / 5, 0.95: 1 / 10, 0.98: 1 / 18}
CALLS = {128: 8, 512: 2}  # batch -> calls a turn


def both_ways(inputs: tuple[Tensor, ...], forward: Callable[[], Tensor], grad: Tensor) -> Task:
    """Forward and backward as a training step does them: fresh gradients of input, weight and bias."""
    for tensor in inputs:
        tensor.requires_grad_()

    def run() -> None:
        for tensor in inputs:
            tensor.grad = None
        forward().backward(grad)

    return run


def layers(batch: int, sparsity: float, in_lanes: bool, half: bool) -> tuple[Task, Task]:
    """The sparse layer and the dense one. Input and output gradient of the sparse one in lanes, as inside a chain of
    sparse layers, or in rows, as at its ends; `half`: bfloat16 activations, as under autocast."""
    mask = torch.rand(SIDE * SIDE) >= sparsity
    index = Index.of(mask.nonzero().squeeze(1), (SIDE, SIDE))
    weight, bias = torch.randn(SIDE, SIDE) / SIDE**0.5, torch.zeros(SIDE)
    kind = torch.bfloat16 if half else torch.float32
    x, grad = torch.randn(batch, SIDE, dtype=kind), torch.randn(batch, SIDE, dtype=kind)
    ours = (lanes(x).clone() if in_lanes else x.clone(), weight.flatten()[mask], bias.clone())
    theirs = (x, weight, bias)

    def dense() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return linear(*theirs)

    return (
        both_ways(ours, lambda: sparse_linear(*ours, index), lanes(grad) if in_lanes else grad),
        both_ways(theirs, dense if half else lambda: linear(*theirs), grad),
    )


def against_dense(batch: int, sparsity: float, in_lanes: bool = True, half: bool = False) -> Comparison:
    name = f"{SIDE} x {SIDE}, batch {batch}, {sparsity:.0%}, {'lanes' if in_lanes else 'rows'}{', bf16' * half}"
    limit = 1 / 4 if half else LIMITS[sparsity]
    return paired(name, *layers(batch, sparsity, in_lanes, half), limit, calls=CALLS[batch])


def half_against_single(batch: int, sparsity: float) -> Comparison:
    ours, theirs = (layers(batch, sparsity, True, half)[0] for half in (True, False))
    name = f"{SIDE} x {SIDE}, batch {batch}, {sparsity:.0%}, bf16 against fp32, both sparse"
    return paired(name, ours, theirs, 1 / 1.4, calls=CALLS[batch])


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        cells = [against_dense(b, s, form) for form in (True, False) for b in CALLS for s in LIMITS]
        cells += [against_dense(b, 0.95, half=True) for b in CALLS] + [half_against_single(b, 0.95) for b in CALLS]
        report(f"sparse_linear_{native.isa()}", cells)
