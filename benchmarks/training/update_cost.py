"""What a topology update adds to the step it falls on, as a share of the time of training, at an interval of 100 steps.

Beside it the bound of a method that grows by gradient: the dense weight gradient of every sparse layer, and no more.

python -m benchmarks.training.update_cost [small|large ...] [THREADS ...]
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass

import torch
from benchmarks.paired import report
from benchmarks.training.masked_step import seconds
from benchmarks.training.sparse_step import BATCH, CASES, INTERVAL, Case, chosen, step_of
from torch import nn

LIMITS = {
    ("large", "set"): {0.9: 0.01, 0.95: 0.01, 0.98: 0.01},
    ("small", "set"): {0.9: 0.02, 0.95: 0.02, 0.98: 0.02},
    ("small", "rigl"): {0.9: 0.05, 0.95: 0.05, 0.98: 0.08},
}
EVERY, ROUNDS = 8, 12
"""Here updates fall on every 8th step, so that many are seen; their share is reckoned at an interval of 100."""


@dataclass(frozen=True)
class Cost:
    """Seconds of steps without an update and of those with one, of the dense gradients alone, and the limit."""

    name: str
    steps: list[float]
    updates: list[float]
    bound: list[float]
    limit: float

    @property
    def share(self) -> float:
        return self._of(statistics.median(self.updates) - statistics.median(self.steps))

    def _of(self, added: float) -> float:
        return added / (INTERVAL * statistics.median(self.steps) + added)

    def line(self) -> str:
        step, update, bound = (1e3 * statistics.median(times) for times in (self.steps, self.updates, self.bound))
        verdict = "ok" if self.share <= self.limit else "MISSED"
        beside = f"(dense gradients alone: {bound:.2f} ms, {self._of(bound / 1e3):.1%})"
        return (
            f"{self.name:<48} step {step:6.2f} ms, update adds {update - step:6.2f} ms: {self.share:6.2%} of the time  "
            f"limit {self.limit:.0%}  {verdict}   {beside}"
        )


def cost(case: Case, method: str, sparsity: float, limit: float) -> Cost:
    x, y = case.batch()
    step = step_of(case, x, y, "fused", sparsity, method, EVERY)
    for _ in range(2 * EVERY):
        step()
    times = [seconds(step) for _ in range(ROUNDS * EVERY + 1)]
    steps = [time for k, time in enumerate(times) if k % EVERY not in (0, EVERY - 1)]
    after = statistics.median(steps)  # the step after an update may find cold caches: what that costs is the update's
    updates = [times[k] + times[k + 1] - after for k in range(EVERY - 1, ROUNDS * EVERY, EVERY)]
    name = f"{case.title.split(',')[0]}, {method}, {sparsity:.0%}"
    return Cost(name, steps, updates, gradients(case.make()), limit)


def gradients(model: nn.Module) -> list[float]:
    """Seconds of the dense weight gradients G^T X of all layers that are sparse, in the layout they come in."""
    shapes = [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)][:-1]
    factors = [(torch.randn(out, BATCH), torch.randn(width, BATCH)) for out, width in shapes]

    def all_of_them() -> None:
        for grad, x in factors:
            torch.mm(grad, x.t())

    all_of_them()
    return [seconds(all_of_them) for _ in range(ROUNDS)]


if __name__ == "__main__":
    names, counts = chosen(sys.argv[1:])
    for threads in counts:
        torch.set_num_threads(threads)
        for name in names:
            cells = [
                cost(CASES[name], method, sparsity, limit)
                for (which, method), limits in LIMITS.items()
                if which == name
                for sparsity, limit in limits.items()
            ]
            report(f"update_cost_{name}", cells)
