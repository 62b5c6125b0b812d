"""Whole convolutional networks: a training step on the sparse backend against a plain dense one at its best.

Beside each ratio its Amdahl bound: what it would be if all but the convolutions took the time it takes in the dense
step. A step holds its share of a RigL update, every 100 steps. And
inference of three members in one call against one dense net.

python -m benchmarks.training.networks [CELL ...] [--sparsity 90 95 98] [--threads 2 1]

Each cell is kept as soon as it is measured, beside those of the same day: a call may measure as few as one likes.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from benchmarks.paired import Comparison, Task, keep, paired
from benchmarks.training.densenet import densenet
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

import regrow
from regrow import Ensemble, Ticket
from regrow.core.distributions import Uniform
from regrow.lab.paired import in_turn
from regrow.sparsifier.start import Start
from regrow.train import models

BATCH, INTERVAL, CLASSES, SHAPE = 64, 100, 10, (3, 32, 32)
REPLACED = 0.3
"""Share of the weights that a measured update replaces: RigL's at the start."""

CONVOLUTIONS = {f"{op}{way}" for op in ("aten::convolution", "regrow::sparse_conv2d") for way in ("", "_backward")}
SETTINGS = {"lr": 1e-5, "momentum": 0.9, "fused": True}


@dataclass(frozen=True)
class Network:
    """What is trained, from which topology and how, and sparsity in % -> how many times faster it should be."""

    title: str
    make: Callable[[], nn.Module]
    topology: Start
    backend: str
    targets: Mapping[int, float]


def resnet18() -> nn.Module:
    return models.build("resnet18", SHAPE, CLASSES)


def vgg16() -> nn.Module:
    """Thirteen convolutions and one linear layer."""
    model = models.build("vgg16", SHAPE, CLASSES)
    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, CLASSES))
    return model


def mobilenet() -> nn.Module:
    """Its depthwise convolutions sparse as well."""
    return models.build("mobilenet_v2", SHAPE, CLASSES)


def cnn() -> nn.Module:
    return models.build("cnn", SHAPE, CLASSES)


STEM = Uniform(dense_first=True)
NETWORKS = {
    "resnet18": Network("ResNet-18, uniform, dense stem", resnet18, STEM, "sparse", {90: 2.2, 95: 3.5, 98: 5.0}),
    "resnet18-erk": Network("ResNet-18, ERK, auto", resnet18, "erk", "auto", {90: 1.4, 95: 2.2, 98: 3.6}),
    "vgg16": Network("VGG-16, uniform", vgg16, "uniform", "sparse", {90: 2.5, 95: 4.0, 98: 6.0}),
    "densenet": Network(
        "DenseNet 3 x 6, uniform", lambda: densenet(CLASSES), "uniform", "sparse", {90: 1.0, 95: 1.0, 98: 1.0}
    ),
    "mobilenet": Network("MobileNet v2, uniform", mobilenet, "uniform", "sparse", {90: 1.0, 95: 1.0, 98: 1.0}),
    "cnn": Network("CNN 64-64-128-128-256-256, ERK", cnn, "erk", "sparse", {90: 1.0, 95: 1.0, 98: 1.0}),
}
HALF = 1.25
"""Times as fast as in float32, under bfloat16 autocast, both sparse."""
MEMBERS = {90: 1.0, 95: 1.4, 98: 2.0}
"""Sparsity in % -> how many times faster three members are than ONE dense net, ResNet-18, uniform."""


@dataclass(frozen=True)
class Step(Comparison):
    """A whole step: `ours` holds its share of an update. `bound`: the speedup that Amdahl's law leaves; `note`: of the
    backend; `update`: seconds of a step with an update."""

    bound: float
    update: float
    note: str

    def line(self) -> str:
        reached = 1 / self.ratio / self.bound
        added = f"{(self.update / INTERVAL) / self.ratio_seconds:.1%} of it updates"
        return f"{super().line()}  {1 / self.ratio:.2f}x, bound {self.bound:.2f}x, {reached:.0%} of it; {added}"

    @property
    def ratio_seconds(self) -> float:
        return sorted(self.ours)[len(self.ours) // 2]


def training(network: Network, sparsity: int, rounds: int = 5) -> Step:
    x, y = torch.randn(BATCH, *SHAPE), torch.randint(CLASSES, (BATCH,))
    dense, _ = step_of(network.make(), x, y)
    last, _ = step_of(network.make(), x, y, channels_last=True)
    spent = in_turn([dense, last], rounds=2)
    plain = min(zip(map(min, spent), (dense, last), strict=True), key=lambda pair: pair[0])[1]
    ours, sparsifier = step_of(network.make(), x, y, network, sparsity)

    def update() -> None:
        sparsifier.explore(REPLACED)
        ours()

    theirs, steps, updates = steady([(plain, 2), (ours, 5), (update, 1)], rounds)
    mixed = [step + (more - step) / INTERVAL for step, more in zip(steps, updates, strict=True)]
    name = f"{network.title}, {sparsity}%"
    limit = 1 / network.targets[sparsity]
    extra = sorted(updates)[rounds // 2] - sorted(steps)[rounds // 2]
    whole, left = sorted(theirs)[rounds // 2], sorted(steps)[rounds // 2] * convolutions(ours)
    bound = whole / (whole * (1 - convolutions(plain)) + left)
    return Step(name, mixed, theirs, limit, bound, extra, sparsifier.backend.note)


def convolutions(step: Task) -> float:
    """The share of a step that its convolutions take."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = profiler.key_averages()
    return sum(e.cpu_time_total for e in events if e.key in CONVOLUTIONS) / sum(e.self_cpu_time_total for e in events)


def step_of(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    network: Network | None = None,
    sparsity: int = 0,
    channels_last: bool = False,
    cast: bool = False,
) -> tuple[Task, regrow.Sparsifier]:
    """One step of the loop a user writes; a `network` makes it sparse; `cast`: under bfloat16 autocast."""
    torch.manual_seed(0)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), **SETTINGS)
    sparsifier = None
    if network:
        setup = {"total_steps": 10**9, "every": 10**8, "topology": network.topology, "backend": network.backend}
        sparsifier = regrow.sparsify(model, optimizer, method="rigl", sparsity=sparsity / 100, **setup)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    if network and network.backend == "auto":
        step()
    return step, sparsifier  # type: ignore[return-value]


def steady(tasks: Sequence[tuple[Task, int]], rounds: int) -> list[list[float]]:
    """Seconds of each call: in every round so many of each, after one that is not counted, in which the memory that
    the other had freed is found again. Every other round goes backwards."""
    seconds: list[list[float]] = [[] for _ in tasks]
    for turn in range(rounds):
        for which in range(len(tasks)) if turn % 2 else reversed(range(len(tasks))):
            task, calls = tasks[which]
            task()
            start = perf_counter()
            for _ in range(calls):
                task()
            seconds[which].append((perf_counter() - start) / calls)
    return seconds


def members(sparsity: int, rounds: int = 9) -> Comparison:
    """Three members in one call, against one dense net."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, *SHAPE)
    ensemble = Ensemble(resnet18(), [ticket(sparsity, seed) for seed in range(3)], "sparse")
    dense = [inference(resnet18(), x), inference(resnet18(), x, channels_last=True)]
    best = min(zip(map(min, in_turn(dense, rounds=2)), dense, strict=True), key=lambda pair: pair[0])[1]
    name = f"three members of ResNet-18, uniform, against one dense, {sparsity}%"
    return paired(name, inference(ensemble, x), best, 1 / MEMBERS[sparsity], rounds)


def half(sparsity: int, rounds: int = 5) -> list[Comparison]:
    """A step under bfloat16 autocast: against the same in float32, and against a dense one under autocast as well."""
    x, y = torch.randn(BATCH, *SHAPE), torch.randint(CLASSES, (BATCH,))
    network = NETWORKS["resnet18"]
    ours, single = (step_of(network.make(), x, y, network, sparsity, cast=cast)[0] for cast in (True, False))
    dense, _ = step_of(network.make(), x, y, channels_last=True, cast=True)
    mine, theirs, other = steady([(ours, 5), (single, 5), (dense, 2)], rounds)
    name = f"ResNet-18, uniform, bf16 autocast against {{}}, {sparsity}%"
    return [
        Comparison(name.format("float32, sparse"), mine, theirs, 1 / HALF),
        Comparison(name.format("dense, bf16"), mine, other, 1),
    ]


def ticket(sparsity: int, seed: int) -> Ticket:
    model = resnet18()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    setup = {"sparsity": sparsity / 100, "seed": seed, "topology": STEM, "backend": "sparse"}
    return Ticket.of(model, regrow.sparsify(model, optimizer, method="static", **setup))


def inference(model: nn.Module, x: Tensor, channels_last: bool = False) -> Task:
    model.eval()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            model(x)

    return run


CELLS = [*NETWORKS, "members", "bf16"]


def measure(names: Iterable[str], sparsities: Iterable[int]) -> None:
    for sparsity in sparsities:
        for name in names:
            for cell in half(sparsity) if name == "bf16" else [one(name, sparsity)]:
                keep("networks", cell, Comparison, Step)


def one(name: str, sparsity: int) -> Comparison:
    return members(sparsity) if name == "members" else training(NETWORKS[name], sparsity)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.training.networks")
    parser.add_argument("cells", nargs="*", default=[], choices=[*CELLS, []])
    parser.add_argument("--sparsity", nargs="+", type=int, default=[90, 95, 98])
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1])
    chosen = parser.parse_args()
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        measure(chosen.cells or CELLS, chosen.sparsity)
