"""Inference: one sparse sample, three members in one call against one dense net, and three dense members in one call.

python -m benchmarks.training.inference [THREADS ...]
"""

from __future__ import annotations

import sys

import torch
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.memory import mlp
from torch import nn

import regrow
from regrow import Ensemble, Ticket
from regrow.train import models

SINGLE = {0.9: 4.0, 0.95: 8.0, 0.98: 15.0}
"""Sparsity -> how many times faster than dense, MLP 3072-4096-4096-10, one sample."""
MEMBERS = {0.9: 1.7, 0.95: 2.5, 0.98: 4.0}
"""Sparsity -> how many times faster three members are than ONE dense net, the same MLP, batch 128."""
TOGETHER = 1.5
"""How many times faster one call for three dense members is than three calls."""


def task_of(model: nn.Module, x: torch.Tensor) -> Task:
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(x)

    return run


def ticket(model: nn.Module, sparsity: float, seed: int) -> Ticket:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="static", sparsity=sparsity, seed=seed, backend="sparse")
    return Ticket.of(model, sparsifier)


def one_sample(sparsity: float, target: float) -> Comparison:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    name = f"MLP 3072-4096-4096-10, batch 1, {sparsity:.0%}"
    model = regrow.load(ticket(mlp(), sparsity, 0), mlp())
    return paired(name, task_of(model, x), task_of(mlp(), x), 1 / target, rounds=21, calls=10)


def three_members(sparsity: float, target: float) -> Comparison:
    torch.manual_seed(0)
    x = torch.randn(128, 3, 32, 32)
    name = f"three members, MLP 3072-4096-4096-10, batch 128, {sparsity:.0%}"
    ensemble = Ensemble(mlp(), [ticket(mlp(), sparsity, seed) for seed in range(3)], "sparse")
    return paired(name, task_of(ensemble, x), task_of(mlp(), x), 1 / target, rounds=21)


class InTurn(nn.Module):
    """What one would write by hand: each member called, their mean probability."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x).softmax(-1) for member in self.members]).mean(0)


def dense_together(hidden: tuple[int, ...], shape: tuple[int, ...], batch: int) -> Comparison:
    def build() -> nn.Module:
        return models.build("mlp", shape, hidden=hidden)

    torch.manual_seed(0)
    x = torch.randn(batch, *shape)
    tickets = [ticket(build(), 0.8, seed) for seed in range(3)]
    turn = InTurn([each.apply(build()) for each in tickets])
    calls = 80_000_000 // hidden[0] ** 2  # tens of milliseconds a turn
    name = f"three dense members, MLP {shape[-1] ** 2 * shape[0]}-{'-'.join(map(str, hidden))}-10, batch {batch}"
    return paired(name, task_of(Ensemble(build(), tickets), x), task_of(turn, x), 1 / TOGETHER, rounds=21, calls=calls)


def compare() -> list[Comparison]:
    dense = [((1024, 1024), (1, 28, 28)), ((4096, 4096), (3, 32, 32))]
    return [
        *(one_sample(sparsity, target) for sparsity, target in SINGLE.items()),
        *(three_members(sparsity, target) for sparsity, target in MEMBERS.items()),
        *(dense_together(hidden, shape, batch) for hidden, shape in dense for batch in (1, 16)),
    ]


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("inference", compare())
