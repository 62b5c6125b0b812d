"""Where a number was measured, and whether the machine had other work meanwhile."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from regrow.train.record import Record, cpu_model
from regrow.train.surroundings import commit

BUSY = 0.1
"""Cores that other processes may use before a measurement is marked."""


class Neighbours:
    """Processor time that other processes used while something was measured; None where the system does not tell."""

    cores: float | None = None

    @property
    def busy(self) -> bool:
        return self.cores is not None and self.cores > BUSY

    def warning(self) -> str:
        """A line for the head of a table, or nothing."""
        return f"BUSY MACHINE, {self.cores:.1f} cores had other work: do not quote" if self.busy else ""


@contextmanager
def watching() -> Iterator[Neighbours]:
    """Compares what the processors did inside the block with what this process and its children did."""
    neighbours = Neighbours()
    before, start = _others(), time.perf_counter()
    yield neighbours
    after, seconds = _others(), time.perf_counter() - start
    if before is not None and after is not None and seconds > 0:
        neighbours.cores = max(0.0, after - before) / seconds


def _others() -> float | None:
    """Processor seconds since boot that were not ours."""
    try:
        counts = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = counts[:8]
    ours = os.times()
    spent = ours.user + ours.system + ours.children_user + ours.children_system
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - spent


def machine() -> Record:
    """Date, commit, versions, processor, threads."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "versions": {"regrow": version("regrow"), "torch": torch.__version__, "python": platform.python_version()},
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
