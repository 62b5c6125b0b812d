"""Heap: while a topology is updated, what is freed goes back to the system at once.

An update makes and frees vectors as long as a layer has weights. glibc carves those from its heap, between what stays,
and the process keeps the holes: about a third more resident memory than training needs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM, _MMAP = -1, -3
"""glibc's numbers for mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""

_LARGE = 1 << 20
"""Bytes from which memory comes from the system and returns to it; smaller vectors are reused faster than they return."""

_USUAL = 1 << 25
"""The same while training: where glibc's own threshold, which moves, ends after a few large allocations."""


@contextmanager
def frugal(entries: int) -> Iterator[None]:
    """Return large vectors when they are freed; nothing changes where `entries`, the longest vector's, are few."""
    libc = _libc()
    if libc is None or 4 * entries < _LARGE:
        yield
        return
    libc.mallopt(_MMAP, _LARGE)
    try:
        yield
    finally:
        libc.mallopt(_MMAP, _USUAL)
        libc.mallopt(_TRIM, 2 * _USUAL)
        libc.malloc_trim(0)


@cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if it is one that can be told."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
