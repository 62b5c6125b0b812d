"""What masking costs: a masked RigL training step against a plain dense one (limit 1.05x).

python -m benchmarks.training.masked_step [THREADS ...]
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

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
    "MLP 784-1024-1024-10, batch 128": (lambda: models.build("mlp", shape=(1, 28, 28)), (128, 1, 28, 28), 8, 41),
    "ResNet-18 (CIFAR), batch 64": (lambda: models.build("resnet18", shape=(3, 32, 32)), (64, 3, 32, 32), 1, 15),
}


def step_of(make: Callable[[], nn.Module], x: Tensor, y: Tensor, loop: str, lanes: bool, sparsity: float) -> Task:
    """A training step: SGD with momentum, RigL every 100 steps (so that its updates are paid for) unless dense."""
    torch.manual_seed(0)
    model = make()
    if lanes:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, **LOOPS[loop])
    if sparsity:
        regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity, total_steps=10**6)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def best_dense(make: Callable[[], nn.Module], x: Tensor, y: Tensor) -> tuple[str, bool]:
    """PyTorch at its best: which optimizer loop, channels_last or not."""

    def seconds(choice: tuple[str, bool]) -> float:
        step = step_of(make, x, y, *choice, sparsity=0.0)
        step()
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            step()
            runs.append(time.perf_counter() - start)
        return min(runs)

    formats = (False, True) if x.dim() == 4 and x.shape[1] > 1 else (False,)
    return min(itertools.product(LOOPS, formats), key=seconds)


def compare(name: str) -> list[Comparison]:
    make, shape, calls, rounds = NETS[name]
    x, y = torch.randn(shape), torch.randint(10, shape[:1])
    loop, lanes = best_dense(make, x, y)
    how = f"{loop}{', channels_last' if lanes else ''}"
    theirs = step_of(make, x, y, loop, lanes, 0.0)
    return [
        paired(
            f"{name}, {sparsity:.0%} ({how})", step_of(make, x, y, loop, lanes, sparsity), theirs, LIMIT, rounds, calls
        )
        for sparsity in SPARSITIES
    ]


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("masked_step", [c for name in NETS for c in compare(name)])
