"""What a run leaves to be read: rows while it goes, its environment, its result. Plain JSON, no paths of the user."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from regrow.core.errors import RegrowError
from regrow.train import atomic
from regrow.train.paths import RunFolder

Record = dict[str, Any]

PACKAGES = ("lightning-fabric", "numpy", "scikit-learn", "timm")


def environment(surroundings: Record) -> Record:
    """Where a run began: `surroundings`, and the machine and packages around them."""
    return {
        **surroundings,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_json(path: Path, record: Record) -> None:
    """Write one record, whole or not at all."""
    atomic.write(path, (json.dumps(record, indent=2) + "\n").encode())


def read_json(path: Path) -> Record:
    """Read one record.

    Raises:
        RegrowError: the file is missing or is not JSON.
    """
    try:
        record: Record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RegrowError(
            f"cannot read {path} ({error}). Put a good copy back, or delete it and run again: what it holds is "
            "computed anew from the checkpoint."
        ) from error
    return record


def add_row(folder: RunFolder, row: Record) -> None:
    """Append one row to `metrics.jsonl`."""
    atomic.append(folder.metrics, json.dumps(row))


def rows(folder: RunFolder) -> list[Record]:
    """The rows of `metrics.jsonl`, without a torn last one."""
    return [json.loads(line) for line in atomic.lines(folder.metrics)]


def cut_back(folder: RunFolder, step: int) -> None:
    """Drop the rows after `step`, and a torn last line: what resumes at `step` will write them again."""
    if folder.metrics.exists():
        kept = [json.dumps(row) + "\n" for row in rows(folder) if row["step"] <= step]
        atomic.write(folder.metrics, "".join(kept).encode())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
