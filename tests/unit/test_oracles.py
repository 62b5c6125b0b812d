"""Published and derived numbers, read off the topologies that the real sparsifier makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import regrow
from regrow.core.topology import Topology
from regrow.methods.drop_grow import DropGrow
from regrow.metrics.exploration import forecast
from regrow.metrics.flops import Ledger, dense_flops, forward_flops, run_flops
from regrow.train import models

DENSITIES = (0.2, 0.1, 0.05, 0.02)
SHAPES = {"imagenet": ((3, 224, 224), 1000), "cifar10": ((3, 32, 32), 10), "cifar100": ((3, 32, 32), 100)}

# (model and data, weights in millions, per density (dense layers, epsilon, FLOPs of the dense model))
ERK = [
    ("resnet50-imagenet", "25.503", [(8, "99.56", .414), (1, "48.79", .242), (0, "24.37", .122), (0, "9.749", .049)]),
    ("resnet50-cifar100", "23.652", [(9, "93.95", .385), (2, "46.07", .225), (0, "23.00", .114), (0, "9.201", .045)]),
    ("resnet34-cifar100", "21.311", [(5, "271.9", .436), (4, "130.4", .212), (2, "63.53", .106), (1, "25.25", .043)]),
    ("wrn28_10-cifar10", "36.461", [(6, "405.8", .340), (5, "195.5", .169), (3, "96.04", .085), (3, "38.12", .034)]),
    ("wrn28_10-cifar100", "36.519", [(6, "403.2", .337), (5, "192.7", .166), (3, "93.1", .083), (2, "37.1", .033)]),
    ("vgg16-cifar10", "14.978", [(4, "344.4", .420), (2, "166.2", .220), (2, "82.7", .113), (2, "32.6", .048)]),
]  # fmt: skip


def shown(value: float, like: str) -> bool:
    """Is it the printed number, to its last digit or a thousandth?"""
    unit = 10.0 ** -len(like.partition(".")[2])
    return abs(value - float(like)) <= max(0.5001 * unit, 1e-3 * float(like))


def epsilon(topology: Topology) -> float:
    """Of the layer that holds most weights, where rounding to whole weights counts least."""
    name = max((n for n in topology if topology.nnz_of(n) < topology.numel_of(n)), key=topology.nnz_of)
    return topology.nnz_of(name) / sum(topology.shape(name))


@pytest.mark.parametrize(("net", "millions", "rows"), ERK, ids=[row[0] for row in ERK])
def test_erk(net: str, millions: str, rows: list[tuple[int, str, float]]) -> None:
    name, _, data = net.partition("-")
    shape, classes = SHAPES[data]
    model = models.build(name, shape, classes)
    flops = dense_flops(model, torch.empty(1, *shape, device="meta"))
    for density, (dense, eps, ratio) in zip(DENSITIES, rows, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        sparsifier = regrow.sparsify(model, optimizer, method="static", density=density)
        topology = sparsifier.topology
        sparsifier.finalize()
        assert shown(topology.numel / 1e6, millions)
        assert topology.nnz == round(density * topology.numel)
        assert set(topology) == set(flops)
        assert sum(topology.nnz_of(n) == topology.numel_of(n) for n in topology) == dense
        assert shown(epsilon(topology), eps)
        counted = forward_flops(flops, topology.densities()) / sum(flops.values())
        assert counted == pytest.approx(ratio, abs=1e-3)


def test_dense_resnet50() -> None:
    """8.18e9 FLOPs forward, 3.14e18 for 100 epochs of ImageNet (reported: 8.2e9 and 3.2e18)."""
    model = models.build("resnet50", (3, 224, 224), 1000)
    flops = dense_flops(model, torch.empty(1, 3, 224, 224, device="meta"))
    run = run_flops(flops, {}, Ledger(steps=100 * 1_281_167, batch_size=1))
    assert run["inference"] == pytest.approx(8.18e9, abs=0.005e9)
    assert run["training"] == pytest.approx(3.14e18, abs=0.005e18)
    assert run["training"] == run["training_executed"] == run["training_dense"]
    assert run["training_ratio"] == run["inference_ratio"] == 1.0


def explorations(density: float, updates: int) -> Iterator[regrow.Sparsifier]:
    """A real run of SET-ITOP, one update a step, on a layer of 100 000 weights; yields after each."""
    torch.manual_seed(0)
    model = nn.Linear(400, 250, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = regrow.sparsify(
        model, optimizer, method="set-itop", density=density, total_steps=updates, every=1, topology="uniform"
    )
    for _ in range(updates):
        model(torch.randn(4, 400)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        yield sparsifier


@pytest.mark.parametrize(
    ("density", "updates", "rate"),
    [(0.2, 58, 0.974), (0.1, 58, 0.812), (0.05, 58, 0.551), (0.05, 65, 0.591), (0.02, 65, 0.295), (0.01, 65, 0.159)],
)
def test_exploration(density: float, updates: int, rate: float) -> None:
    nnz = round(density * 100_000)
    measured = []
    for sparsifier in explorations(density, updates):
        assert sparsifier.topology.nnz == nnz
        measured.append(sparsifier.exploration_rate)
    method = sparsifier.method
    assert isinstance(method, DropGrow)
    assert method.every is not None
    assert sparsifier.last_update is not None
    assert sparsifier.last_update["step"] == updates == method.every.updates(updates)
    assert measured[-1] == pytest.approx(rate, abs=0.01)
    foreseen = forecast(sparsifier.topology.shapes, {"weight": density}, method.fraction, method.every, updates)
    assert [rates.overall for rates in foreseen[1:]] == pytest.approx(measured, abs=0.006)


@pytest.mark.parametrize(
    ("sparsity", "method", "printed"),
    [(0.8, "static", 0.42), (0.9, "static", 0.24), (0.8, "snfs", 0.61), (0.9, "snfs", 0.50), (0.8, "rigl-itop", 0.42),
     (0.9, "rigl-itop", 0.25)],
)  # fmt: skip
def test_training_flops_of_itop_table(sparsity: float, method: str, printed: float) -> None:
    """ResNet-50 on ImageNet, 100 epochs at batch 128, against dense; the table prints two digits."""
    ratio = {0.8: 0.414, 0.9: 0.242}[sparsity]
    chosen = regrow.METHODS[method]()
    steps = 100 * (1_281_167 // 128)
    ledger = Ledger(steps, 128, chosen.every.updates(steps) if chosen.every else 0, chosen.needs)
    assert ledger.per_sample(ratio, 1.0) / 3 == pytest.approx(printed, abs=0.0101)
