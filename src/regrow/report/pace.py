"""How fast dense training is, told by the runs beside one: what sparse training saves against it."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from regrow.train.paths import RunFolder
from regrow.train.record import Record, read_json


def dense_epoch(root: Path, like: Record) -> float | None:
    """Median seconds per epoch of the finished dense runs in `root` that agree with `like`; None: there is none.

    Args:
        like: what makes runs comparable: data, batch_size, parameters, threads, device.
    """
    found = [_seconds(RunFolder(file.parent), like) for file in root.glob("*/seed_*/result.json")]
    known = [seconds for seconds in found if seconds]
    return median(known) if known else None


def _seconds(folder: RunFolder, like: Record) -> float | None:
    try:
        result = read_json(folder.result)
        if result.get("density") != 1 or result.get("backend") or not folder.environment.exists():
            return None
        told = read_json(folder.environment) | result
    except (ValueError, TypeError, AttributeError):  # damaged: another page says so
        return None
    return result.get("seconds_per_epoch") if all(told.get(key) == value for key, value in like.items()) else None
