"""Bytes of a checkpoint (weights, optimizer state, topology, what was explored) against those of a dense run.

MLP 3072-4096-4096-10 after a few updates of RigL, written as `train` writes it.

python -m benchmarks.training.checkpoint_size
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from benchmarks.paired import report
from benchmarks.training.memory import mlp
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer

import regrow
from regrow.train import checkpoint
from regrow.train.data.tensors import TensorData
from regrow.train.job import Job
from regrow.train.state import content_of

LIMITS = {0.9: 0.2, 0.95: 0.1}
"""Sparsity -> share of the dense checkpoint."""

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "SGD momentum": lambda model: SGD(model.parameters(), lr=0.01, momentum=0.9),
    "AdamW": lambda model: AdamW(model.parameters(), lr=1e-4),
}
STEPS, EVERY = 20, 4


@dataclass(frozen=True)
class Sizes:
    """Bytes, what they are compared with, and the share of weights ever active, which are stored too."""

    name: str
    ours: int
    theirs: int
    limit: float
    exploration_rate: float

    def line(self) -> str:
        ratio = self.ours / self.theirs
        sizes = f"{self.ours / 1e6:6.1f} MB against {self.theirs / 1e6:6.1f} MB"
        verdict = "ok" if ratio <= self.limit else "MISSED"
        return (
            f"{self.name:<28} {sizes}  {ratio:.3f}x  limit {self.limit}x  {verdict}   (R_s {self.exploration_rate:.2f})"
        )


def written(optimizer: str, sparsity: float = 0.0, backend: str = "") -> tuple[int, float]:
    """Bytes of the checkpoint of a short run, and its exploration rate."""
    torch.manual_seed(0)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    model = mlp()
    trained, sparsifier = OPTIMIZERS[optimizer](model), None
    if sparsity:
        sparsifier = regrow.sparsify(
            model, trained, method="rigl", sparsity=sparsity, total_steps=2 * STEPS, every=EVERY, backend=backend
        )
    for _ in range(STEPS):
        cross_entropy(model(x), y).backward()
        trained.step()
        trained.zero_grad()
    data = TensorData("noise", 10, {"train": (x, y), "test": (x, y)}, torch.zeros(3), torch.ones(3), None)
    job = Job(model, trained, data, cross_entropy, epochs=1, batch_size=32, seed=0, sparsifier=sparsifier)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        checkpoint.save(path, content_of(job, STEPS))
        return path.stat().st_size, sparsifier.exploration_rate if sparsifier else 1.0


def compare() -> list[Sizes]:
    dense = {optimizer: written(optimizer)[0] for optimizer in OPTIMIZERS}
    return [
        Sizes(f"{backend}, {optimizer}, {sparsity:.0%}", ours, dense[optimizer], limit, explored)
        for backend in ("sparse", "masked")
        for optimizer in OPTIMIZERS
        for sparsity, limit in LIMITS.items()
        for ours, explored in [written(optimizer, sparsity, backend)]
    ]


if __name__ == "__main__":
    report("checkpoint_size", compare())
