"""Run folders made up in a moment: everything a run may leave, from no training at all."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path
from typing import Any

import yaml

LAYERS = {"conv1.weight": 0.6, "conv2.weight": 0.1, "fc.weight": 0.3}
EPOCHS = 12

Record = dict[str, Any]


def recipe(method: str | None, density: float | None, seed: int, **changes: Any) -> Record:
    """As it is stored in a folder."""
    return {
        "version": 1,
        "name": f"images-{method or 'dense'}",
        "seeds": [seed],
        "data": {"name": "cifar10"},
        "epochs": EPOCHS,
        "method": method and {"name": method, "every": {"interval": 100}},
        "density": density,
        "tweaks": [],
        **changes,
    }


def make(root: Path, method: str | None = "rigl", density: float | None = 0.1, seed: int = 0, **changes: Any) -> Path:
    """A finished run with tickets, evaluated on everything; recipes that differ have folders that differ."""
    told = recipe(method, density, seed, **changes)
    anyone = json.dumps({k: v for k, v in told.items() if k != "seeds"}, sort_keys=True)
    folder = root / f"{told['name']}-{sum(map(ord, anyone)) * 2654435761 % 2**32:08x}" / f"seed_{seed}"
    folder.mkdir(parents=True)
    share = density or 1.0
    (folder / "recipe.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    environment = {"regrow": "0.1", "torch": "2.9", "cpu": "A processor", "threads": 1, "commit": "c0ffee"}
    write(folder / "environment.json", environment | {"packages": {"numpy": "2.0"}})
    rows = [row(epoch, share, seed, method) for epoch in range(1, EPOCHS + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    write(folder / "result.json", result(share, seed, method))
    systems = {name: system(0.8 + 0.01 * number) for number, name in enumerate(("last", "ensemble", "superposed"))}
    apart = {"disagreements": [[0, 0.1], [0.1, 0]], "overlaps": [[1, 0.4], [0.4, 1]]}
    write(folder / "judged.json", {"paths": [{"at": [0, 0.5, 1], "loss": [0.3, 0.5, 0.31]}]})
    write(folder / "evaluation.json", {"systems": systems, "diversity": apart})
    return folder


def row(epoch: int, density: float, seed: int, method: str | None) -> Record:
    rate = min(1.0, density * (2 - exp(-epoch / 4)))
    moving = {
        "density_by_layer": {name: d * density * (1 + 0.02 * epoch) for name, d in LAYERS.items()},
        "exploration_by_layer": {name: min(1.0, d * rate) for name, d in LAYERS.items()},
        "births": {"width": 1, "alive": [max(0, 900 - 10 * epoch), *range(10, 10 * epoch, 10)]},
    }
    return {
        "step": 100 * epoch,
        "epoch": epoch,
        "loss": 2 * exp(-epoch / 3),
        "val_accuracy": 0.9 - 0.4 * exp(-epoch / 3),
        "val_loss": 1.0,
        "exploration_rate": rate,
        "density": density,
        "seconds": 2.0 * epoch * density + seed,
        **(moving if method else {}),
    }


def result(density: float, seed: int, method: str | None) -> Record:
    accuracy = 0.9 - 0.02 * (1 - density) + 0.002 * seed + (0.01 if method == "rigl" else 0)
    worth = {"test_accuracy": accuracy, "test_nll": 0.4, "test_ece": 0.03}
    tickets = [
        {**worth, "file": f"{n}.safetensors", "step": 600 * (n + 1), "epoch": 6 * (n + 1), "nnz": 900} for n in (0, 1)
    ]
    return {
        **worth,
        "data": "cifar10",
        "batch_size": 32,
        "parameters": 10_000,
        "numel": 9_000,
        "nnz": int(9_000 * density),
        "density": density,
        "exploration_rate": min(1.0, 1.8 * density),
        "backend": method and "masked",
        "bytes": 80_000,
        "bytes_topology": 5_000,
        "seconds": 30.0 * density,
        "seconds_per_step": 0.002,
        "seconds_per_epoch": 2.5,
        "flops": {"training_ratio": 1.1 * density if method else 1.0, "inference_ratio": density},
        "selection": "last",
        **(
            {"tickets": tickets, "ensemble": {**worth, "members": 2, "test_accuracy": accuracy + 0.01}}
            if method
            else {}
        ),
    }


def system(accuracy: float) -> Record:
    bins = [
        {"low": b / 15, "high": (b + 1) / 15, "count": b, "confidence": (b + 0.5) / 15, "accuracy": b / 16}
        for b in range(15)
    ]
    worn = [{"accuracy": accuracy - 0.1 * severity, "nll": 1.0} for severity in range(5)]
    return {
        "accuracy": accuracy,
        "nll": 0.5,
        "brier": 0.2,
        "ece": 0.04,
        "adaptive_ece": 0.05,
        "aurc": 0.02,
        "temperature": 1.2,
        "scaled": {"ece": 0.01},
        "reliability": bins,
        "corruption": {"kinds": {"fog": worn, "snow": worn}},
        "ood": {"svhn": {"entropy": {"auroc": 0.9}}},
    }


def write(path: Path, record: Record) -> None:
    path.write_text(json.dumps(record))
