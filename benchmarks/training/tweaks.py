"""What ToST's tweaks cost a truly sparse training step while they live, against the plain one.

The small CNN of the CIFAR-10 studies and the MLP of the Fashion-MNIST ones, 95 %, SGD with momentum. The re-scaled
initialisation is no part of a step; label smoothing is in "all", and costs nothing.

python -m benchmarks.training.tweaks [THREADS ...]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from benchmarks.paired import Comparison, Task, paired, report
from torch.nn.functional import cross_entropy

import regrow
from regrow.train import models
from regrow.train.devices import keep_memory
from regrow.tweaks import GhostSkip, LabelSmoothing, SoftActivation, Tweak


@dataclass(frozen=True)
class Case:
    """A model, and what a step with these tweaks is to take at most, as a multiple of the plain one."""

    shape: tuple[int, ...]
    identity: bool
    calls: int
    limits: dict[str, float]


CASES = {
    "cnn": Case((3, 32, 32), False, 1, {"soft-activation": 1.4, "ghost-skip": 2.1, "all": 2.1}),
    "mlp": Case((1, 28, 28), True, 20, {"soft-activation": 1.4, "ghost-skip": 4.0, "all": 4.0}),
}
"""About twice the plain step for the CNN. The ghost of the MLP's first layer is a dense matrix with its momentum: that
is most of a dense step."""


def tweaks_of(name: str, identity: bool) -> list[Tweak]:
    stack: list[Tweak] = [SoftActivation(), GhostSkip(identity=identity), LabelSmoothing()]
    return [tweak for tweak in stack if name in ("all", tweak.name)]


def step_of(model: str, batch: int, half: bool, tweaks: str) -> Task:
    """One step of the loop a user writes."""
    torch.manual_seed(0)
    case = CASES[model]
    net = models.build(model, case.shape, 10)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    given = {"topology": "erk", "total_steps": 10**6, "tweaks": tweaks_of(tweaks, case.identity)}
    sparsifier = regrow.sparsify(net, optimizer, method="static", sparsity=0.95, backend="sparse", **given)
    loss_fn = sparsifier.loss(cross_entropy)
    x, y = torch.randn(batch, *case.shape), torch.randint(10, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = loss_fn(net(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(model: str, batch: int, half: bool) -> list[Comparison]:
    case, kind = CASES[model], "bf16" if half else "fp32"
    return [
        paired(
            f"{model}, batch {batch}, {kind}: {tweaks}",
            step_of(model, batch, half, tweaks),
            step_of(model, batch, half, "none"),
            limit,
            rounds=7,
            calls=case.calls,
        )
        for tweaks, limit in case.limits.items()
    ]


if __name__ == "__main__":
    keep_memory()
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        cells = [("cnn", 64), ("cnn", 128), ("mlp", 128)]
        report("tweaks", [cell for case in cells for half in (False, True) for cell in compare(*case, half)])
