"""Without compiled kernels, sparse layers run in plain torch: a training step of it against a masked one (limit 5x).

python -m benchmarks.training.fallback [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, paired, report
from benchmarks.training.masked_step import step_of
from benchmarks.training.sparse_step import mlp, sparse_step

from regrow.execution import native

LIMIT = 5.0


def compare(sparsity: float) -> Comparison:
    x, y = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
    masked = step_of(mlp, x, y, "fused", False, sparsity)
    name = f"MLP 784-1024-1024-10, batch 128, {sparsity:.0%}, plain torch"
    return paired(name, sparse_step(x, y, sparsity), masked, LIMIT, rounds=7, calls=20)


if __name__ == "__main__":
    native.use("reference")
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("fallback_step", [compare(sparsity) for sparsity in (0.9, 0.95, 0.98)])
