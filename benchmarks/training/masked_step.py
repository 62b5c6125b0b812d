"""What masking costs: a masked RigL training step against a plain dense one (limit 1.05x), and an update beside it.

A turn of the MLP is 100 steps and holds one update; a turn of ResNet-18 is one step, without.

python -m benchmarks.training.masked_step [THREADS ...]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.paired import Comparison, Task, paired, report
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.train import models

LIMIT = 1.05
SPARSITIES = (0.9, 0.95, 0.98)
LOOPS: dict[str, dict[str, bool]] = {"plain": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "MLP 784-1024-1024-10, batch 128": (lambda: models.build("mlp", shape=(1, 28, 28)), (128, 1, 28, 28), 100, 7),
    "ResNet-18 (CIFAR), batch 64": (lambda: models.build("resnet18", shape=(3, 32, 32)), (64, 3, 32, 32), 1, 9),
}


@dataclass(frozen=True)
class Updates:
    """What a topology update adds to the step that makes it, [s]; and the dense step, [s]."""

    name: str
    update: float
    step: float

    def line(self) -> str:
        share = self.update / self.step
        return f"{self.name:<58} an update adds {share:.2f} dense steps: {share:.1f} % at an interval of 100"


def step_of(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor, loop: str, lanes: bool, sparsity: float, every: int = 100
) -> Task:
    """A training step: SGD with momentum, RigL unless dense."""
    torch.manual_seed(0)
    model = make()
    if lanes:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, **LOOPS[loop])
    if sparsity:
        regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity, total_steps=10**6, every=every)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def best_dense(make: Callable[[], nn.Module], x: Tensor, y: Tensor) -> tuple[str, bool]:
    """PyTorch at its best: which optimizer loop, channels_last or not."""

    def quickest(choice: tuple[str, bool]) -> float:
        step = step_of(make, x, y, *choice, sparsity=0.0)
        step()
        return min(seconds(step) for _ in range(5))

    formats = (False, True) if x.dim() == 4 and x.shape[1] > 1 else (False,)
    return min(itertools.product(LOOPS, formats), key=quickest)


def seconds(step: Task) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(name: str) -> list[Comparison | Updates]:
    make, shape, calls, rounds = NETS[name]
    x, y = torch.randn(shape), torch.randint(10, shape[:1])
    loop, lanes = best_dense(make, x, y)
    how = f"{loop}{', channels_last' if lanes else ''}"
    theirs = step_of(make, x, y, loop, lanes, 0.0)
    cells: list[Comparison | Updates] = []
    for sparsity in SPARSITIES:
        title = f"{name}, {sparsity:.0%} ({how})"
        cells.append(paired(title, step_of(make, x, y, loop, lanes, sparsity), theirs, LIMIT, rounds, calls))
        often = step_of(make, x, y, loop, lanes, sparsity, every=2)
        turns = [(seconds(often), seconds(often), seconds(theirs)) for _ in range(4)]
        added = statistics.median(second - first for first, second, _ in turns)
        cells.append(Updates(title, added, statistics.median(dense for *_, dense in turns)))
    return cells


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("masked_step", [c for name in NETS for c in compare(name)])
