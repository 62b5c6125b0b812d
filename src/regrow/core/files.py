"""Files that are there whole or not at all, whenever a process is killed."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, data: bytes | memoryview) -> None:
    """Put `data` at `path` all at once: a reader sees the old file or the new one, also after a power cut.

    The new file is complete on disk before the rename, and the rename is on disk before the return.
    A temporary file left by a kill is overwritten by the next write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    store(temporary, os.O_TRUNC, data)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def store(path: Path, mode: int, data: bytes | memoryview) -> None:
    """Write `data` to the file (`mode`: os.O_TRUNC or os.O_APPEND) and on to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
