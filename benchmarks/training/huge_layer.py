"""A layer that could never be dense: 100,000 x 100,000 with 10 million connections, trained with SET in under 2 GB.

Dense, its weights alone would take 40 GB. Peak resident size is that of the whole process, torch included.

python -m benchmarks.training.huge_layer [THREADS ...]
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.paired import report
from torch.nn.functional import mse_loss

import regrow
from regrow.execution.sparse_linear import SparseLinear
from regrow.lab.memory import in_child

SIDE, NNZ, BATCH, LIMIT = 100_000, 10_000_000, 32, 2e9
STEPS, UPDATES = 10, 5


@dataclass(frozen=True)
class Trained:
    """Seconds of steps and of steps with an update, the loss before and after, and the peak bytes of the process."""

    steps: list[float]
    updates: list[float]
    losses: tuple[float, float]
    peak: int

    def line(self) -> str:
        step, update = (1e3 * statistics.median(seconds) for seconds in (self.steps, self.updates))
        return (
            f"{SIDE:,} x {SIDE:,}, {NNZ:,} connections, batch {BATCH}, SGD momentum, SET: {step:.0f} ms a step, "
            f"{update:.0f} ms one with an update, loss {self.losses[0]:.3f} -> {self.losses[1]:.3f}, "
            f"peak {self.peak / 1e9:.2f} GB  limit {LIMIT / 1e9:g} GB  {'ok' if self.peak < LIMIT else 'MISSED'}"
        )


def train(threads: int) -> Trained:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer = SparseLinear(SIDE, SIDE, NNZ)
    optimizer = torch.optim.SGD(layer.parameters(), lr=30.0, momentum=0.9, fused=True)
    sparsifier = regrow.sparsify(
        layer, optimizer, method="set", total_steps=10**6, topology="built", backend="sparse", every=10**5
    )
    x, y = torch.randn(BATCH, SIDE), torch.randn(BATCH, SIDE)
    losses: list[float] = []

    def step() -> None:
        loss = mse_loss(layer(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    def update() -> None:
        sparsifier.explore(0.3)
        step()

    step()
    steps, updates = ([_seconds(task) for _ in range(count)] for task, count in ((step, STEPS), (update, UPDATES)))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Trained(steps, updates, (losses[0], losses[-1]), peak)


def _seconds(task: Callable[[], None]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("huge_layer", [in_child(train, threads)])
