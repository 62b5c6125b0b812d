"""Peak memory of training, dense and sparse: growth of resident size, activations excluded, topology updates included.

Each way of training has a process of its own: what it grows by over its size before the model was built, while it
takes steps and updates, less what a forward pass alone grows by (the control). While it is built, a sparse model is
dense for a moment, unless it is made of SparseLinear layers: that peak is printed beside.

python -m benchmarks.training.memory
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.paired import report
from torch import nn

from regrow.lab.memory import in_child
from regrow.lab.subject import Memory, Setting, Way, memory_of
from regrow.train import models

LIMIT, SPARSITY, UPDATES = 0.15, 0.95, 10
METHODS = ("set", "rigl")


def mlp() -> nn.Module:
    return models.build("mlp", (3, 32, 32), hidden=(4096, 4096))


@dataclass(frozen=True)
class Held:
    """Bytes, and what they are to be compared with."""

    name: str
    ours: Memory
    theirs: Memory

    @property
    def ratio(self) -> float:
        return _without(self.ours) / _without(self.theirs)

    def line(self) -> str:
        sizes = f"{_without(self.ours) / 1e6:6.1f} MB against {_without(self.theirs) / 1e6:6.1f} MB"
        beside = ", ".join(f"{key} {_both(self, key)}" for key in ("activations", "building"))
        verdict = "ok" if self.ratio <= LIMIT else "MISSED"
        return f"{self.name:<28} {sizes}  {self.ratio:.3f}x  limit {LIMIT}x  {verdict}   (beside: {beside} MB)"


def _without(memory: Memory) -> int:
    return memory.training - memory.activations


def _both(held: Held, key: str) -> str:
    return " / ".join(f"{getattr(memory, key) / 1e6:.0f}" for memory in (held.ours, held.theirs))


def compare(method: str) -> Held:
    setting = Setting("benchmarks.training.memory:mlp", (3, 32, 32), 128, method, "adamw", threads=2)
    ours, theirs = (in_child(memory_of, setting, way, UPDATES) for way in (Way("sparse", SPARSITY), Way()))
    return Held(f"{method}, AdamW, {SPARSITY:.0%}, {UPDATES} updates", ours, theirs)


if __name__ == "__main__":
    report("memory", [compare(method) for method in METHODS])
