"""How much memory a process grows by, as the operating system counts it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

from regrow.core.errors import RegrowError

P = ParamSpec("P")
R = TypeVar("R")

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of `function` in a fresh process, where nothing has grown yet.

    A server that has imported torch, and done nothing else, forks it: a start takes milliseconds.
    """
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload([function.__module__, "torch._dynamo"])  # which optimizers import late
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


class Growth:
    """Resident bytes of this process, above what they were when this object was made.

    Raises:
        RegrowError: the system does not tell (it takes Linux).
    """

    def __init__(self) -> None:
        self._start = 0
        self.restart()
        self._start = _bytes("VmRSS")

    def restart(self) -> None:
        """Forget the peak so far; freed memory goes back to the system first."""
        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)
            _CLEAR.write_text("5")  # the kernel's word for: forget the peak
        except (OSError, AttributeError) as error:
            raise RegrowError(f"peak memory is measured on Linux only ({error})") from error

    @property
    def now(self) -> int:
        return _bytes("VmRSS") - self._start

    @property
    def peak(self) -> int:
        """The most since `restart`."""
        return _bytes("VmHWM") - self._start


def _bytes(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
