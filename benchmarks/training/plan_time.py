"""Seconds of training that `regrow plan` foresees from its ten seconds, against the runs themselves.

python -m benchmarks.training.plan_time
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarks.paired import report

from regrow.lab.plan.draft import Draft
from regrow.lab.plan.outlook import outlook
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.train.loop import fit
from regrow.train.paths import RunFolder

LIMIT = 0.25
CASES = {
    "dense, MLP 64-1024-1024-10": ("demo/dense", []),
    "masked, SET-ITOP at 90 %": ("demo/set-itop", ["backend=masked"]),
    "sparse, SET-ITOP at 90 %": ("demo/set-itop", []),
    "sparse, RigL-ITOP at 95 %": ("demo/rigl-itop", ["density=0.05"]),
    "masked, RigL-ITOP, WRN-10-1 at 80 %": (
        "itop/cifar10-wrn10-rigl-small",
        ["data=synthetic:3x32x32x10", "epochs=12", "method.every.interval=8"],
    ),
}


@dataclass(frozen=True)
class Foretold:
    """Seconds of training."""

    name: str
    planned: float
    spent: float

    def line(self) -> str:
        off = self.planned / self.spent - 1
        verdict = "ok" if abs(off) <= LIMIT else "MISSED"
        seconds = f"{self.planned:7.2f} s planned, {self.spent:7.2f} s spent"
        return f"{self.name:<38} {seconds}  {off:+.1%}  limit {LIMIT:.0%}  {verdict}"


def compare(name: str, threads: int) -> Foretold:
    """First the plan, then the run."""
    shipped, settings = CASES[name]
    recipe = load(shipped, [*settings, f"threads={threads}"])
    planned = outlook(Draft.of(recipe)).own.training
    assert planned is not None
    with tempfile.TemporaryDirectory() as folder:
        result = fit(job_of(recipe, 0), RunFolder(Path(folder)))
    return Foretold(name, planned, result["seconds"])


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("plan_time", [compare(name, threads) for name in CASES])
