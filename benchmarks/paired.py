"""Paired timing: two ways of doing the same, turn by turn in one process, and what may be said of their ratio."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import regrow

RESULTS = Path(__file__).parent / "results"
Task = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """`ours` against `theirs`: seconds per call in each round, and the ratio ours / theirs round by round."""

    name: str
    ours: list[float]
    theirs: list[float]
    limit: float

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median ratio, from order statistics (binomial)."""
        ordered = sorted(self.ratios)
        n = len(ordered)
        reach = 1.96 * math.sqrt(n) / 2
        return ordered[max(0, math.floor(n / 2 - reach))], ordered[min(n - 1, math.ceil(n / 2 + reach))]

    def line(self) -> str:
        low, high = self.interval
        verdict = "ok" if self.ratio <= self.limit else "MISSED"
        times = f"{statistics.median(self.ours) * 1e3:9.3f} ms against {statistics.median(self.theirs) * 1e3:9.3f} ms"
        return f"{self.name:<58} {times}   {self.ratio:5.3f}x [{low:.3f}, {high:.3f}]  limit {self.limit}x  {verdict}"


def paired(name: str, ours: Task, theirs: Task, limit: float, rounds: int = 41, calls: int = 1) -> Comparison:
    """Time both in turn, `calls` calls a turn; which goes first alternates, so that drift falls on both."""
    tasks = (ours, theirs)
    for task in tasks:
        for _ in range(2):
            task()
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            for _ in range(calls):
                tasks[which]()
            seconds[which].append((time.perf_counter() - start) / calls)
    return Comparison(name, *seconds, limit)


def environment() -> dict[str, object]:
    """Where a number was measured. A machine with other work on it says so."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip() or None,
        "versions": {"regrow": regrow.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "cpu": _cpu(),
        "cores": cores,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "busy": load > cores + 0.5,
        "load": load,
    }


def report(name: str, comparisons: list[Comparison]) -> None:
    """Print the lines and keep raw repeats as a dated pair of files."""
    where = environment()
    lines = [c.line() for c in comparisons]
    title = f"{name}, {where['date']}, {where['cpu']}, {where['threads']} threads, torch {torch.__version__}"
    if where["busy"]:
        title += f"  (BUSY MACHINE, load {where['load']:.1f}: do not quote)"
    print("\n".join([title, *lines]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{name}_{where['threads']}threads_{where['date']}"
    stem.with_suffix(".json").write_text(
        json.dumps({"where": where, "cells": [asdict(c) for c in comparisons]}, indent=1)
    )
    stem.with_suffix(".md").write_text("\n".join([f"# {title}", "", "```", *lines, "```", ""]))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
