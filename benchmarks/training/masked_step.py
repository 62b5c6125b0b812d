"""What masking costs: a masked RigL training step against a plain dense one, and an update beside it.

The limit of 1.05x is on the median over rounds of the ratio masked / dense, both timed in every round; its 95 %
interval is printed beside it. A round of the MLP is 100 steps and holds one update; masked and dense take turns of 10,
so that what disturbs the machine for a second falls on all. A round of ResNet-18 is one step, without an update.

python -m benchmarks.training.masked_step [mlp|resnet18 ...] [THREADS ...]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.paired import Comparison, Task, report
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.lab.paired import in_turn
from regrow.train import models

LIMIT = 1.05
SPARSITIES = (0.9, 0.95, 0.98)
LOOPS: dict[str, dict[str, bool]] = {"plain": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


@dataclass(frozen=True)
class Net:
    """What is trained; steps a turn, turns a round, and rounds."""

    title: str
    make: Callable[[], nn.Module]
    batch: tuple[int, ...]
    calls: int
    turns: int
    rounds: int


NETS = {
    "mlp": Net("MLP 784-1024-1024-10, batch 128", lambda: models.build("mlp"), (128, 1, 28, 28), 10, 10, 9),
    "resnet18": Net(
        "ResNet-18, batch 64", lambda: models.build("resnet18", shape=(3, 32, 32)), (64, 3, 32, 32), 1, 1, 7
    ),
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


def best_dense(make: Callable[[], nn.Module], x: Tensor, y: Tensor, calls: int = 1) -> tuple[str, bool]:
    """PyTorch at its best: which optimizer loop, channels_last or not."""

    formats = (False, True) if x.dim() == 4 and x.shape[1] > 1 else (False,)
    choices = list(itertools.product(LOOPS, formats))
    spent = in_turn([step_of(make, x, y, *choice, sparsity=0.0) for choice in choices], 3, calls)
    return min(zip(map(min, spent), choices, strict=True))[1]


def seconds(step: Task) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(net: Net) -> list[Comparison | Updates]:
    x, y = torch.randn(net.batch), torch.randint(10, net.batch[:1])
    loop, lanes = best_dense(net.make, x, y, net.calls)
    how = f"{loop}{', channels_last' if lanes else ''}"
    dense, *masked = (step_of(net.make, x, y, loop, lanes, sparsity) for sparsity in (0.0, *SPARSITIES))
    turns = torch.tensor(in_turn((dense, *masked), net.rounds * net.turns, net.calls), dtype=torch.float64)
    theirs, *ours = turns.view(len(turns), net.rounds, net.turns).mean(2).tolist()
    cells: list[Comparison | Updates] = []
    for sparsity, mine in zip(SPARSITIES, ours, strict=True):
        title = f"{net.title}, {sparsity:.0%} ({how})"
        cells.append(Comparison(title, mine, theirs, LIMIT))
        often = step_of(net.make, x, y, loop, lanes, sparsity, every=2)
        pairs = [(seconds(often), seconds(often)) for _ in range(3)]
        update = statistics.median(second - first for first, second in pairs)
        cells.append(Updates(title, update, statistics.median(theirs)))
    return cells


if __name__ == "__main__":
    chosen = [name for name in sys.argv[1:] if name in NETS] or list(NETS)
    for threads in [int(word) for word in sys.argv[1:] if word not in NETS] or [2, 1]:
        torch.set_num_threads(threads)
        for name in chosen:
            report(f"masked_step_{name}", compare(NETS[name]))
