"""Without compiled kernels, sparse layers run in plain torch: a training step of it against a masked one (limit 5x).

python -m benchmarks.training.fallback [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, paired, report
from benchmarks.training import masked_step, sparse_step

from regrow.execution import native

LIMIT = 5.0


def compare(sparsity: float) -> Comparison:
    case = sparse_step.CASES["small"]
    x, y = case.batch()
    sparse = sparse_step.step_of(case, x, y, "fused", sparsity)
    masked = masked_step.step_of(case.make, x, y, "fused", False, sparsity)
    return paired(f"{case.title}, {sparsity:.0%}, plain torch", sparse, masked, LIMIT, rounds=7, calls=20)


if __name__ == "__main__":
    native.use("reference")
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("fallback_step", [compare(sparsity) for sparsity in (0.9, 0.95, 0.98)])
