"""Inference on one sample, sparse against dense: MLP 3072-4096-4096-10, batch 1.

python -m benchmarks.training.inference [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.memory import mlp
from torch import Tensor, nn

import regrow

TARGETS = {0.9: 4.0, 0.95: 8.0, 0.98: 15.0}
"""Sparsity -> how many times faster than dense."""


def task_of(model: nn.Module, x: Tensor) -> Task:
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(x)

    return run


def sparse(sparsity: float) -> nn.Module:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regrow.sparsify(model, optimizer, method="static", sparsity=sparsity, backend="sparse")
    return model


def compare(sparsity: float, target: float) -> Comparison:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    name = f"MLP 3072-4096-4096-10, batch 1, {sparsity:.0%}"
    return paired(name, task_of(sparse(sparsity), x), task_of(mlp(), x), 1 / target, calls=20)


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("inference", [compare(sparsity, target) for sparsity, target in TARGETS.items()])
