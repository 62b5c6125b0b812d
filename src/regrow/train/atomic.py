"""Every byte of a run folder passes through here, so that a kill at any moment leaves whole files only (law 5)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regrow.core.errors import RegrowError
from regrow.core.files import store, write

__all__ = ["append", "claim", "lines", "write"]


def append(path: Path, line: str) -> None:
    """Add one line to `path`. A kill in the middle tears at most this line: it then lacks its newline, see `lines`."""
    store(path, os.O_APPEND, f"{line}\n".encode())


def lines(path: Path) -> list[str]:
    """The whole lines of `path`, without a torn last one; none if there is no such file."""
    if not path.exists():
        return []
    return path.read_bytes().decode(errors="replace").split("\n")[:-1]


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Be the only process that writes into `folder`, until the block or the process ends.

    Raises:
        RegrowError: another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RegrowError(
            f"another process is training in {folder}. Wait for it or stop it, then run again: the run continues "
            "where it was."
        ) from None
