"""A suite of 24 small runs, one thread each: two workers against one, the start of all processes included.

Each call adds a round to those of the day, unless the machine had other work: the suite once with one worker, once with
two, each from the command line; a run takes a second and a half.

python -m benchmarks.training.suite_throughput
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from benchmarks.paired import NEIGHBOURS, RESULTS, environment, report

LIMIT, RUNS, NAME = 1.7, 24, "suite_throughput"
SUITE = """
name: throughput
base: smoke/digits
set: {epochs: 60, model.hidden: [256, 256], threads: 1}
seeds: [0, 1, 2, 3, 4, 5]
vary: {density: [0.1, 0.2], method.name: [set, rigl]}
"""
REGROW = [sys.executable, "-c", "from regrow.cli import main; main()"]


@dataclass(frozen=True)
class Throughput:
    """Seconds of the suite with one worker and with two, in each round."""

    name: str
    one: list[float]
    two: list[float]

    def line(self) -> str:
        ratios = sorted(one / two for one, two in zip(self.one, self.two, strict=True))
        verdict = "ok" if ratios[0] >= LIMIT else "ok by the median" if median(ratios) >= LIMIT else "MISSED"
        seconds = f"{median(self.one):5.1f} s with one worker, {median(self.two):5.1f} s with two"
        rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        return f"{self.name}: {seconds}  {median(ratios):.2f}x ({rounds})  limit {LIMIT}x  {verdict}"


def seconds(workers: int, folder: Path) -> float:
    """Of the whole command, in a folder of its own."""
    (folder / "throughput.yaml").write_text(SUITE)
    runs = folder / f"runs{workers}"
    words = ["suite", str(folder / "throughput.yaml"), "--workers", str(workers), "--runs", str(runs)]
    start = perf_counter()
    subprocess.run([*REGROW, *words], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    spent = perf_counter() - start
    assert sum(1 for _ in runs.glob("*/seed_*/result.json")) == RUNS
    return spent


def today() -> Throughput:
    """The rounds that the day's file has."""
    where = environment()
    file = RESULTS / f"{NAME}_{where['threads']}threads_{where['date']}.json"
    name = f"{RUNS} runs of an MLP on digits"
    return Throughput(**json.loads(file.read_text())["cells"][0]) if file.exists() else Throughput(name, [], [])


if __name__ == "__main__":
    torch.set_num_threads(1)
    before = today()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: a server that outlives its command is ours, not others'
    with tempfile.TemporaryDirectory() as folder:
        one, two = (seconds(workers, Path(folder)) for workers in (1, 2))
    if warning := NEIGHBOURS.warning():
        sys.exit(f"{warning}: {one:.1f} s and {two:.1f} s, {one / two:.2f}x, are not kept")
    report(NAME, [Throughput(before.name, [*before.one, one], [*before.two, two])])
