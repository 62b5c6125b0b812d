"""Where a number was measured, and whether the machine had other work meanwhile."""

from __future__ import annotations

import datetime
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch

from regrow.train.record import Record, cpu_model
from regrow.train.surroundings import commit

BUSY = 0.1
"""Cores that other processes may use before a measurement is marked."""


class Neighbours:
    """What the processors have done besides this process and its kin since this was made."""

    def __init__(self) -> None:
        self._before, self._start = _others(), time.perf_counter()

    @property
    def cores(self) -> float | None:
        """Cores that others have used, on average; None where the system does not tell."""
        after, seconds = _others(), time.perf_counter() - self._start
        if self._before is None or after is None or seconds <= 0:
            return None
        return max(0.0, after - self._before) / seconds

    @property
    def busy(self) -> bool:
        return (self.cores or 0.0) > BUSY

    def warning(self) -> str:
        """A line for the head of a table, or nothing."""
        return f"BUSY MACHINE, {self.cores:.1f} cores had other work: do not quote" if self.busy else ""


def _others() -> float | None:
    """Processor seconds since boot that were not our process group's."""
    try:
        counts = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        user, nice, system, _idle, _waiting, irq, softirq, steal = counts[:8]
        ours = sum(map(_spent, Path("/proc").glob("[0-9]*/stat")))
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal - ours) / os.sysconf("SC_CLK_TCK")


def _spent(stat: Path) -> int:
    """Ticks of a process and of those it has seen end, if it is of our group."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0
    return sum(map(int, fields[11:15])) if int(fields[2]) == os.getpgrp() else 0


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
