"""A sparse linear layer against SparseProp's (Nikdan et al. 2023, arXiv:2302.04852) and F.linear: all in one process.

In rows, SparseProp runs as its module does, which lays activations into lanes and back; in lanes, only its kernels run.

sh benchmarks/peers/install.sh VENV; VENV/bin/python -m benchmarks.peers.sparseprop [THREADS ...]
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.kernels.linear import CALLS, SIDE, both_ways
from benchmarks.paired import Comparison, Task, report
from sparseprop import backend
from sparseprop.modules import SparseLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from regrow.execution.index import Index
from regrow.execution.ops import lanes, sparse_linear
from regrow.lab.paired import in_turn

EACH, MEDIAN = 2.0, 2.5
"""Times as fast as SparseProp: in every cell at least, and over all cells."""


@dataclass(frozen=True)
class Cell(Comparison):
    """Ours against SparseProp's, and the dense layer in the same rounds."""

    dense: list[float]

    def line(self) -> str:
        ours, theirs, dense = (statistics.median(times) for times in (self.ours, self.theirs, self.dense))
        return (
            f"{super().line()}  dense {dense * 1e3:.3f} ms: {dense / ours:.1f}x ours, {dense / theirs:.1f}x SparseProp"
        )


@dataclass(frozen=True)
class Overall:
    """The median over the cells."""

    cells: list[str]
    gains: list[float]
    limit: float = MEDIAN

    def line(self) -> str:
        gain = statistics.median(self.gains)
        verdict = "ok" if gain >= self.limit else "MISSED"
        found = f"median {gain:.2f}, least {min(self.gains):.2f}"
        return f"times as fast as SparseProp: {found}; limit {self.limit}  {verdict}"


class InLanes(torch.autograd.Function):
    """SparseProp's kernels as its own Function calls them, its transpositions left out: x [in, N] -> [out, N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: SparseLinear, values: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, values)
        ctx.index = layer.W_idx
        y = torch.zeros(layer.N, x.shape[1])
        backend.sparse_linear_vectorized_forward(x, *layer.W_idx, values, y)
        y += bias.view(-1, 1)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        dx, dw = torch.zeros_like(x), torch.zeros_like(values)
        backend.sparse_linear_vectorized_backward(x, *ctx.index, values, grads[0], dx, dw)
        return dx, None, dw, grads[0].sum(1)


def tasks(batch: int, sparsity: float, in_lanes: bool) -> tuple[Task, Task, Task]:
    """Ours, SparseProp's and the dense layer, of the same weights on the same data."""
    whole = nn.Linear(SIDE, SIDE)
    mask = torch.rand(SIDE, SIDE) >= sparsity
    index = Index.of(mask.flatten().nonzero().squeeze(1), (SIDE, SIDE))
    peer = SparseLinear(whole.weight.data * mask, nn.Parameter(whole.bias.data.clone()))
    x, grad = torch.randn(batch, SIDE), torch.randn(batch, SIDE)
    ours = (lanes(x).clone() if in_lanes else x.clone(), whole.weight.data[mask], whole.bias.data.clone())
    theirs = (x.t().contiguous() if in_lanes else x.clone(), peer.W_val, peer.bias)
    run_theirs = (lambda: InLanes.apply(theirs[0], peer, *theirs[1:])) if in_lanes else (lambda: peer(theirs[0]))
    dense = (x, whole.weight, whole.bias)
    made = sparse_linear(*ours, index).detach(), run_theirs().detach()
    torch.testing.assert_close(made[0], made[1].t() if in_lanes else made[1], rtol=1e-4, atol=1e-4)
    return (
        both_ways(ours, lambda: sparse_linear(*ours, index), lanes(grad) if in_lanes else grad),
        both_ways(theirs, run_theirs, grad.t().contiguous() if in_lanes else grad),
        both_ways(dense, lambda: linear(*dense), grad),
    )


def compare(batch: int, sparsity: float, in_lanes: bool) -> Cell:
    name = f"{SIDE} x {SIDE}, batch {batch}, {sparsity:.0%}, {'lanes' if in_lanes else 'rows'}"
    ours, theirs, dense = in_turn(tasks(batch, sparsity, in_lanes), rounds=21, calls=CALLS[batch])
    return Cell(name, ours, theirs, 1 / EACH, dense)


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        cells = [compare(batch, s, form) for form in (True, False) for batch in CALLS for s in (0.9, 0.95, 0.98)]
        report("sparseprop", [*cells, Overall([c.name for c in cells], [1 / c.ratio for c in cells])])
