"""Scratch: large memory apart from the heap, in which what comes and goes between what stays leaves holes."""

from __future__ import annotations

import mmap
import weakref
from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

HUGE = 1 << 21
"""Bytes of a huge page: the system clears one in a tenth of the time, and less, that as many small ones take."""

_LEAST, _MOST = 1 << 20, 1 << 29
"""Bytes of what has a place here; of all there is place for."""

_LINE = 64


class Arena:
    """Memory for what passes, first fit; all of it goes back to the system once nothing of it is in use, or held."""

    def __init__(self) -> None:
        self._memory: memoryview | None = None
        self._taken: list[tuple[int, int]] = []
        self._holders = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """What passes meanwhile finds the memory that others have left."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._settle()

    def take(self, size: int) -> memoryview | None:
        """So many bytes; None where they do not fit."""
        if self._memory is None:
            self._memory = _mapped(_MOST + HUGE, huge=True)
            self._first = -torch.frombuffer(self._memory, dtype=torch.uint8).data_ptr() % HUGE
        start = 0
        for low, high in self._taken:
            if start + size <= low:
                break
            start = -(-high // _LINE) * _LINE
        if start + size > _MOST:
            return None
        block = start, start + size
        insort(self._taken, block)
        view = self._memory[self._first + start : self._first + start + size]
        weakref.finalize(view, self._give, block).atexit = False
        return view

    def _give(self, block: tuple[int, int]) -> None:
        self._taken.remove(block)
        self._settle()

    def _settle(self) -> None:
        if not self._taken and not self._holders:
            self._memory = None


class Pool:
    """Memory that waits for the next of the same size."""

    def __init__(self) -> None:
        self._idle: dict[int, list[memoryview]] = {}

    def take(self, size: int) -> memoryview:
        idle = self._idle.setdefault(size, [])
        memory = idle.pop() if idle else _mapped(size)
        view = memory[:]
        weakref.finalize(view, idle.append, memory).atexit = False
        return view

    def release(self) -> None:
        """Give back to the system what waits: sizes have changed."""
        self._idle.clear()


def _mapped(size: int, huge: bool = False) -> memoryview:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


_ARENA, _POOL = Arena(), Pool()
release, held = _POOL.release, _ARENA.held


def passing(n: int, dtype: torch.dtype) -> Tensor:
    """[n], uninitialised, for what is soon forgotten."""
    return _tensor(n, dtype, _ARENA)


def lasting(n: int, dtype: torch.dtype) -> Tensor:
    """[n], uninitialised, for what stays until the next of its size takes its place."""
    return _tensor(n, dtype, _POOL)


def _tensor(n: int, dtype: torch.dtype, source: Arena | Pool) -> Tensor:
    size = n * dtype.itemsize
    view = source.take(size) if size >= _LEAST and hasattr(mmap, "MADV_HUGEPAGE") else None
    return torch.empty(n, dtype=dtype) if view is None else torch.frombuffer(view, dtype=dtype)
