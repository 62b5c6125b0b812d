"""Scratch: large memory apart from the heap, in which what comes and goes between what stays leaves holes."""

from __future__ import annotations

import mmap
import sys
import weakref
from bisect import insort
from collections.abc import Hashable
from ctypes import CDLL, addressof, c_char, memmove
from functools import partial

import torch
from torch import Tensor

LEAST, _PASSING, _MOST = 1 << 20, 1 << 17, 1 << 29
"""Bytes from which on what lasts, and what passes, has a place here; of all that passes."""

_LINE = 64


class Arena:
    """Memory for what passes, first fit. What has been used once stays: to ask the system for it anew takes longer than
    most of what is done in it. Released, it goes back once nothing of it is in use."""

    def __init__(self) -> None:
        self._memory: memoryview | None = None
        self._taken: list[tuple[int, int]] = []
        self._views: dict[tuple[int, int], weakref.ref[memoryview]] = {}
        self._released = False

    def take(self, size: int) -> memoryview | None:
        """So many bytes; None where they do not fit."""
        if self._memory is None:
            self._memory = _mapped(_MOST)
        start = 0
        for low, high in self._taken:
            if start + size <= low:
                break
            start = -(-high // _LINE) * _LINE
        if start + size > _MOST:
            return None
        block = start, start + size
        insort(self._taken, block)
        view = self._memory[start : start + size]
        self._views[block] = weakref.ref(view, partial(self._give, block))
        return view

    def lower(self, at: int, size: int) -> memoryview | None:
        """Move the bytes from this address on to the lowest place, which may reach into their own; None if they are not
        here."""
        start = -1 if self._memory is None else at - _address(self._memory)
        block = next((taken for taken in self._taken if taken[0] == start), None)
        if block is None:
            return None
        del self._views[block]
        self._taken.remove(block)
        view = self.take(size)
        assert view is not None  # where it was, at least
        memmove(_address(view), at, size)
        return view

    def release(self) -> None:
        """Give it back to the system, at once or as soon as it can be."""
        self._released = True
        self._settle()

    def _give(self, block: tuple[int, int], _: object) -> None:
        del self._views[block]
        self._taken.remove(block)
        self._settle()

    def _settle(self) -> None:
        if self._released and not self._taken:
            self._memory, self._released = None, False


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

    def release(self, size: int | None = None) -> None:
        """Give back to the system what waits, of one size or all: they have changed."""
        if size is None:
            self._idle.clear()
        else:
            self._idle.pop(size, None)


def _address(memory: memoryview) -> int:
    return addressof(c_char.from_buffer(memory))


def _mapped(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


_ARENA, _POOL = Arena(), Pool()
release, vacate = _POOL.release, _ARENA.release


def passing(n: int, dtype: torch.dtype) -> Tensor:
    """[n], uninitialised, for what is soon forgotten."""
    return _tensor(n, dtype, _ARENA, _PASSING)


def lasting(n: int, dtype: torch.dtype) -> Tensor:
    """[n], uninitialised, for what stays until the next of its size takes its place."""
    return _tensor(n, dtype, _POOL, LEAST)


_SIZES: dict[Hashable, int] = {}


def recurring(key: Hashable, n: int, dtype: torch.dtype) -> Tensor:
    """[n], uninitialised, for what comes in every step: it lasts, if the last of this key was as large. Batches of many
    sizes are the heap's: what waited for each of them would never be needed again."""
    size, last = n * dtype.itemsize, _SIZES.get(key)
    if size == last:
        return lasting(n, dtype)
    _SIZES[key] = size
    if last is not None:
        release(last)
    return torch.empty(n, dtype=dtype)


def lowered(values: Tensor) -> Tensor:
    """The same, moved to the lowest place, so that what passes, but not at once, leaves none free below it. Nobody else
    may use `values` any more."""
    view = _ARENA.lower(values.data_ptr(), values.nbytes)
    return values if view is None else torch.frombuffer(view, dtype=values.dtype)


def housed(values: Tensor) -> Tensor:
    """A copy that is apart from the heap; themselves, if they are small."""
    large = values.nbytes >= LEAST and values.is_cpu
    return lasting(values.numel(), values.dtype).view(values.shape).copy_(values) if large else values


def trim() -> None:
    """Give back to the system what is free in the heap, where it can be."""
    if sys.platform == "linux" and hasattr(libc := CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _tensor(n: int, dtype: torch.dtype, source: Arena | Pool, least: int) -> Tensor:
    size = n * dtype.itemsize
    view = source.take(size) if size >= least and hasattr(mmap, "MAP_ANONYMOUS") else None
    return torch.empty(n, dtype=dtype) if view is None else torch.frombuffer(view, dtype=dtype)
