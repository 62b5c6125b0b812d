"""Where runs are computed: `ENGINES` is the table of contents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regrow.lab.engines.base import Engine, Outcome, Task
from regrow.lab.engines.local import Local
from regrow.lab.engines.ray import Ray
from regrow.lab.engines.slurm import Slurm

__all__ = ["ENGINES", "Engine", "Outcome", "Task"]

ENGINES: dict[str, Callable[[int, Path], Engine]] = {
    "local": Local,  # processes of this machine
    "ray": Ray,  # a Ray cluster, or this machine as one
    "slurm": Slurm,  # jobs of a Slurm cluster
}
"""Name -> what makes it from the number of runs at a time and a folder for what a scheduler writes."""
