"""Whole runs, dense and truly sparse, from the first step to the test split: seconds and accuracy side by side.

The small CNN on CIFAR-10 (under $REGROW_DATA), twenty epochs, as two recipes say. One seed, so nothing is claimed of
accuracy: the studies do that. Stop it when you like: a run goes on from its last checkpoint, a finished one is read.

python -m benchmarks.training.whole_runs [RUNS [THREADS]]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paired import report

from regrow.lab.engines.base import Task, train
from regrow.recipe.folders import wanted
from regrow.recipe.load import load
from regrow.train.record import read_json, rows

RECIPES = ("baselines/cifar10-cnn-dense-small", "itop/cifar10-cnn-rigl-small")


@dataclass(frozen=True)
class Run:
    """What one run took and what came of it; `seconds` are of training, validation after every epoch included."""

    recipe: str
    seconds: float
    seconds_per_step: float
    test_accuracy: float
    val_accuracy: float
    training_flops: float
    exploration_rate: float
    bytes_checkpoint: int
    threads: int
    commit: str
    dense_seconds: float

    def line(self) -> str:
        return (
            f"{self.recipe:<36} {self.seconds / 60:5.1f} min  {self.dense_seconds / self.seconds:5.2f}x as fast  "
            f"{1e3 * self.seconds_per_step:5.0f} ms/step  test accuracy {self.test_accuracy:.2%}  "
            f"(validation {self.val_accuracy:.2%})  training FLOPs {self.training_flops:.3f}x  "
            f"R_s {self.exploration_rate:.2f}  checkpoint {self.bytes_checkpoint / 1e6:.1f} MB  ({self.commit[:7]})"
        )


def run(recipe: str, runs: Path, threads: int, dense_seconds: float | None = None) -> Run:
    resolved, folder = wanted(load(recipe), 0, runs)
    found = train(Task(resolved, folder, None, threads))
    environment, last = read_json(folder.environment), rows(folder)[-1]
    return Run(
        recipe=recipe,
        seconds=found["seconds"],
        seconds_per_step=last["seconds_per_step"],
        test_accuracy=found["test_accuracy"],
        val_accuracy=found["val_accuracy"],
        training_flops=found["flops"]["training_ratio"],
        exploration_rate=found["exploration_rate"],
        bytes_checkpoint=folder.checkpoint.stat().st_size,
        threads=environment["threads"],
        commit=environment["commit"],
        dense_seconds=dense_seconds or found["seconds"],
    )


if __name__ == "__main__":
    runs, threads = Path(sys.argv[1] if sys.argv[1:] else "runs"), int(sys.argv[2] if sys.argv[2:] else 1)
    dense = run(RECIPES[0], runs, threads)
    report("whole_runs", [dense, *(run(recipe, runs, threads, dense.seconds) for recipe in RECIPES[1:])])
