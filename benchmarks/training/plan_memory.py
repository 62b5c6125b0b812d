"""Peak memory that `regrow plan` computes from shapes, against what a process that trains grows by.

The run is whole: the model is built, steps and updates are taken, the checkpoint is written, the test split is judged.
Data are random and few, and not in it. What the allocator keeps of freed pieces is, and differs from run to run.

python -m benchmarks.training.plan_memory
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.paired import report

from regrow.lab.memory import Growth, in_child
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.outlook import outlook
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.train.loop import fit
from regrow.train.paths import RunFolder

LIMIT = 0.25
MLP = ["data=synthetic:1x28x28x10", "epochs=2", "method.every.interval=5"]
CNN = ["data=synthetic:3x32x32x10", "epochs=2", "method.every.interval=2"]
WIDE = "model.hidden=[4096, 4096]"
CASES = {
    "MLP 1024, SET-ITOP, masked": ("itop/fashion-mnist-mlp-set-small", [*MLP, "backend=masked"]),
    "MLP 1024, SET-ITOP, sparse": ("itop/fashion-mnist-mlp-set-small", [*MLP, "backend=sparse"]),
    "MLP 1024, RigL-ITOP, masked": ("itop/fashion-mnist-mlp-rigl-small", [*MLP, "backend=masked"]),
    "MLP 4096, RigL-ITOP, masked": ("itop/fashion-mnist-mlp-rigl-small", [*MLP, WIDE, "backend=masked"]),
    "MLP 4096, RigL-ITOP, sparse": ("itop/fashion-mnist-mlp-rigl-small", [*MLP, WIDE, "backend=sparse"]),
    "CNN, dense": ("baselines/cifar10-cnn-dense-small", CNN[:2]),
    "CNN, RigL-ITOP, masked": ("itop/cifar10-cnn-rigl-small", [*CNN, "backend=masked"]),
    "CNN, RigL-ITOP, sparse": ("itop/cifar10-cnn-rigl-small", [*CNN, "backend=sparse"]),
}


@dataclass(frozen=True)
class Held:
    """Bytes."""

    name: str
    planned: int
    measured: int

    def line(self) -> str:
        off = self.planned / self.measured - 1
        verdict = "ok" if abs(off) <= LIMIT else "MISSED"
        sizes = f"{self.planned / 1e6:7.1f} MB planned, {self.measured / 1e6:7.1f} MB measured"
        return f"{self.name:<30} {sizes}  {off:+.1%}  limit {LIMIT:.0%}  {verdict}"


def peak(name: str, settings: Sequence[str]) -> int:
    """Of this process, over the run; one of another model has loaded what all need."""
    recipe = load(name, settings)
    _fit("smoke/digits", ["threads=1", "epochs=1", f"backend={recipe.backend}"])
    growth = Growth()
    building = _fit(name, settings, growth)
    return max(building, growth.peak)


def _fit(name: str, settings: Sequence[str], growth: Growth | None = None) -> int:
    job = job_of(load(name, settings), 0)
    building = growth.peak if growth else 0
    if growth:
        growth.restart()
    with tempfile.TemporaryDirectory() as folder:
        fit(job, RunFolder(Path(folder)))
    return building


def compare(name: str) -> Held:
    recipe, settings = CASES[name]
    settings = [*settings, "threads=1"]
    planned = outlook(Draft.of(load(recipe, settings)), calibrated=False).own.held
    assert planned is not None
    return Held(name, planned.peak, in_child(peak, recipe, settings))


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("plan_memory", [compare(name) for name in sys.argv[1:] or CASES])
