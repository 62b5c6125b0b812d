"""What bit-exact resumption depends on besides the run itself (law 5); a difference is named, never silent."""

from __future__ import annotations

import platform
import subprocess
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Surroundings = dict[str, str | int | None]


def surroundings(fabric: Fabric) -> Surroundings:
    """Versions, commit, threads, instruction set, device, precision and number of processes, now."""
    return {
        "regrow": version("regrow"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "device": device_name(fabric.device),
        "precision": fabric._precision.precision,
        "processes": fabric.world_size,
    }


def differences(stored: Mapping[str, str | int | None], now: Mapping[str, str | int | None]) -> list[str]:
    """What changed, in words; empty when nothing did."""
    return [
        f"{name} {stored.get(name, 'unknown')} -> {now.get(name, 'unknown')}"
        for name in {**stored, **now}
        if stored.get(name) != now.get(name)
    ]


def warn(message: str) -> None:
    """The default voice for a difference."""
    warnings.warn(message, stacklevel=2)


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def commit() -> str | None:
    """The git commit of the working directory, `-dirty` if files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
