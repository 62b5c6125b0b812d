"""What truly sparse execution gains: a training step on backend="sparse" against a plain dense one at its best.

A turn of the sparse model is 100 steps and holds one topology update, a turn of the dense one a third of their time.

python -m benchmarks.training.sparse_step [small|large ...] [THREADS ...]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from benchmarks.paired import Comparison, Task, report
from benchmarks.training.masked_step import LOOPS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.lab.paired import in_turn
from regrow.lab.subject import OPTIMIZERS
from regrow.train import models

BATCH, INTERVAL = 128, 100


@dataclass(frozen=True)
class Case:
    """What is trained, how, and sparsity -> how many times faster than dense it should be."""

    title: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    optimizer: str
    settings: Mapping[str, float]
    method: str
    rounds: int
    targets: Mapping[float, float]

    def batch(self) -> tuple[Tensor, Tensor]:
        return torch.randn(BATCH, *self.shape), torch.randint(10, (BATCH,))


CASES = {
    "small": Case(
        title="MLP 784-1024-1024-10, SGD momentum, RigL",
        make=lambda: models.build("mlp", (1, 28, 28)),
        shape=(1, 28, 28),
        optimizer="sgd",
        settings={"lr": 0.01, "momentum": 0.9},
        method="rigl",
        rounds=31,
        targets={0.9: 4.5, 0.95: 7.5, 0.98: 11.0},
    ),
    "large": Case(
        title="MLP 3072-4096-4096-10, AdamW, SET",
        make=lambda: models.build("mlp", (3, 32, 32), hidden=(4096, 4096)),
        shape=(3, 32, 32),
        optimizer="adamw",
        settings={"lr": 1e-4},
        method="set",
        rounds=5,
        targets={0.9: 4.0, 0.95: 8.0, 0.98: 14.0},
    ),
}


def step_of(
    case: Case, x: Tensor, y: Tensor, loop: str, sparsity: float, method: str = "", every: int = INTERVAL
) -> Task:
    """One step of the loop a user writes, dense at sparsity 0; updates fall where they do, and are paid for."""
    torch.manual_seed(0)
    model = case.make()
    optimizer = OPTIMIZERS[case.optimizer](model.parameters(), **case.settings, **LOOPS[loop])
    if sparsity:
        setup = {"total_steps": 10**6, "every": every, "backend": "sparse"}
        regrow.sparsify(model, optimizer, method=method or case.method, sparsity=sparsity, **setup)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def many(step: Task, times: int) -> Task:
    def run() -> None:
        for _ in range(times):
            step()

    return run


def best_dense(case: Case, x: Tensor, y: Tensor) -> str:
    """PyTorch at its best: which optimizer loop."""
    spent = in_turn([step_of(case, x, y, loop, 0.0) for loop in LOOPS], rounds=4)
    return min(zip(map(min, spent), LOOPS, strict=True))[1]


def compare(case: Case, sparsity: float, target: float, loop: str, x: Tensor, y: Tensor) -> Comparison:
    few = max(5, round(INTERVAL / target / 3))
    tasks = many(step_of(case, x, y, "fused", sparsity), INTERVAL), many(step_of(case, x, y, loop, 0.0), few)
    ours, theirs = in_turn(tasks, case.rounds)
    name = f"{case.title}, {sparsity:.0%} ({loop})"
    return Comparison(name, [t / INTERVAL for t in ours], [t / few for t in theirs], 1 / target)


def chosen(words: list[str]) -> tuple[list[str], list[int]]:
    """Cases and numbers of threads from the command line; all by default."""
    names, threads = [word for word in words if word in CASES], [int(word) for word in words if word not in CASES]
    return names or [*CASES], threads or [2, 1]


if __name__ == "__main__":
    names, counts = chosen(sys.argv[1:])
    for threads in counts:
        torch.set_num_threads(threads)
        for name in names:
            case = CASES[name]
            x, y = case.batch()
            loop = best_dense(case, x, y)
            report(f"sparse_step_{name}", [compare(case, *cell, loop, x, y) for cell in case.targets.items()])
