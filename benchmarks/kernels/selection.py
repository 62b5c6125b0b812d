"""The one selection on 25 million weights, against torch.topk(sorted=False): limit 1.3x; checked by stable sort.

python -m benchmarks.kernels.selection [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, paired, report

from regrow.core.select import select

N, LIMIT = 25_000_000, 1.3
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.5)


def compare(density: float) -> Comparison:
    score, n = torch.randn(N, generator=torch.Generator().manual_seed(0)).abs(), round(density * N)
    oracle = torch.sort(score, descending=True, stable=True).indices[:n].sort().values
    if not torch.equal(select(score, n), oracle):
        raise SystemExit(f"select differs from a stable sort at density {density}")
    return paired(
        f"select {density:.0%} of 25 million",
        lambda: select(score, n),
        lambda: torch.topk(score, n, sorted=False),
        LIMIT,
        rounds=11,
    )


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("select", [compare(d) for d in DENSITIES])
