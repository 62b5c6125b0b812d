"""What `backend="auto"` decides, and what that is worth: a training step against a plain dense one at its best.

Two claims for each density: the step is never under 0.97x of dense, and where the whole model run sparse is at least
1.15x faster than dense, sparse is chosen. Beside the decided step stands that of the whole model on backend="sparse".
The topology is uniform and no step holds an update: `networks.py` prices those.

python -m benchmarks.training.auto [NETWORK ...] [--density 5 10 ...] [--threads 2] [--again]

Each cell is kept as soon as it is measured, and one of the same day is measured again with --again only.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.paired import Comparison, Task, keep, kept
from benchmarks.training.networks import resnet18, steady, vgg16
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.lab.paired import in_turn, ratio
from regrow.lab.subject import OPTIMIZERS
from regrow.train import models

NAME, CLASSES = "auto", 10
LEAST, WORTH = 0.97, 1.15
"""Of the dense speed, in any case; and from which gain of the whole model on sparse must be chosen."""

DENSITIES = (5, 10, 20, 35, 50, 70, 100)


@dataclass(frozen=True)
class Case:
    """What is trained, on what, by which optimizer; steps of a turn."""

    title: str
    make: Callable[[], nn.Module]
    batch: tuple[int, ...]
    optimizer: str
    settings: dict[str, float]
    calls: int


MOMENTUM = {"lr": 1e-5, "momentum": 0.9}
CASES = {
    "mlp": Case("MLP 784-1024-1024-10", lambda: models.build("mlp"), (128, 1, 28, 28), "sgd", MOMENTUM, 20),
    "vgg16": Case("VGG-16", vgg16, (64, 3, 32, 32), "sgd", MOMENTUM, 2),
    "resnet18": Case("ResNet-18", resnet18, (64, 3, 32, 32), "sgd", MOMENTUM, 1),
    "vit": Case("ViT 6 x 256", lambda: models.build("vit", (3, 32, 32)), (64, 3, 32, 32), "adamw", {"lr": 1e-6}, 1),
}


@dataclass(frozen=True)
class Choice(Comparison):
    """`ours`: as auto decided; `whole`: all sites sparse; `chosen` of `sites` run sparse."""

    whole: list[float]
    chosen: int
    sites: int

    def line(self) -> str:
        whole = 1 / ratio(self.whole, self.theirs).median
        verdict = "ok" if self.chosen or whole < WORTH else "MISSED: sparse not chosen"
        return (
            f"{super().line()}  {1 / self.ratio:5.2f}x, all sparse {whole:5.2f}x, chosen {self.chosen:2} of "
            f"{self.sites}: {verdict}"
        )


def choice(case: Case, density: int, rounds: int) -> Choice:
    torch.manual_seed(0)
    x, y = torch.randn(case.batch), torch.randint(CLASSES, case.batch[:1])
    last = any(isinstance(module, nn.Conv2d) for module in case.make().modules()) and plain_is_slower(case, x, y)
    dense, _ = step_of(case, x, y, last)
    auto, sparsifier = step_of(case, x, y, last, density, "auto")
    auto()
    whole, _ = step_of(case, x, y, last, density, "sparse")
    calls = case.calls
    theirs, ours, all_sparse = steady([(dense, calls), (auto, calls), (whole, calls)], rounds)
    decision = sparsifier.decision
    name = f"{case.title}, {density:3}% dense"
    return Choice(name, ours, theirs, 1 / LEAST, all_sparse, len(decision["sparse"]), len(sparsifier.topology))


def plain_is_slower(case: Case, x: Tensor, y: Tensor) -> bool:
    """Than channels_last, dense."""
    plain, last = in_turn([step_of(case, x, y, last)[0] for last in (False, True)], rounds=2)
    return min(last) < min(plain)


def step_of(
    case: Case, x: Tensor, y: Tensor, last: bool, density: int = 0, backend: str = "masked"
) -> tuple[Task, Any]:
    """One step of the loop a user writes, dense at density 0; images and model in channels_last if `last`."""
    torch.manual_seed(0)
    model = case.make()
    if last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[case.optimizer](model.parameters(), **case.settings, fused=True)
    sparsifier = None
    if density:
        setup: dict[str, Any] = {"topology": "uniform", "total_steps": 10**9, "every": 10**8, "backend": backend}
        sparsifier = regrow.sparsify(model, optimizer, method="rigl", density=density / 100, **setup)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, sparsifier


def measure(names: Iterable[str], densities: Iterable[int], rounds: int, again: bool) -> None:
    for name in names:
        for density in densities:
            title = f"{CASES[name].title}, {density:3}% dense"
            if again or all(cell.name != title for cell in kept(NAME, Choice)):
                keep(NAME, choice(CASES[name], density, rounds), Choice)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.training.auto")
    parser.add_argument("networks", nargs="*", default=[], choices=[*CASES, []])
    parser.add_argument("--density", nargs="+", type=int, default=[*DENSITIES])
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true")
    chosen = parser.parse_args()
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        measure(chosen.networks or [*CASES], chosen.density, chosen.rounds, chosen.again)
