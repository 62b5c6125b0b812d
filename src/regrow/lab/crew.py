"""Processes of this machine that work through a list, each on one item after another.

Nothing of regrow is imported here: the server that forks them loads what they need while its parent does.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOADED = ("regrow.lab.engines.base", "regrow.train.fabric", "torch._dynamo")
"""Seconds of imports that every run needs: once, by the server."""


@dataclass(frozen=True)
class Died:
    """Instead of a result: the process has ended with this code."""

    code: int | None

    def __str__(self) -> str:
        return f"its process has ended with code {self.code}"


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection


def share(workers: int) -> int:
    """Threads of one of `workers` processes that share this machine's cores, unless OMP_NUM_THREADS says how many."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() else max(1, (os.cpu_count() or 1) // workers)


def ready(threads: int) -> None:
    """Start the server, if there is none; it returns at once, and what is loaded next is loaded beside it."""
    get_context("forkserver").set_forkserver_preload(list(LOADED))
    with _environment(OMP_NUM_THREADS=str(threads)):  # read when torch is loaded
        forkserver.ensure_running()


def together(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, hear: Callable[[str], None] | None = None
) -> Iterator[tuple[Item, Result | Died]]:
    """Each item as it ends, and what `function` has made of it; `workers` at a time.

    A worker that dies takes its item with it, and another takes its place. When the iterator is closed, they end.

    Args:
        hear: told the lines that workers write to their standard error; else they go to this process's.
    """
    waiting = deque(items)
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, Item]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, item = idle.pop() if idle else _hire(function, workers), waiting.popleft()
                busy[worker.pipe] = worker, item
                with suppress(BrokenPipeError):  # it has died, which is seen below
                    worker.pipe.send(item)
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker, item = busy[pipe]
                found: Result | Died
                try:
                    done, found = pipe.recv()
                    if not done:
                        (hear or _repeat)(str(found))
                        continue
                    idle.append(worker)
                except (EOFError, ConnectionResetError):
                    worker.process.join()
                    found = Died(worker.process.exitcode)
                del busy[pipe]
                yield item, found
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.process.terminate()
            worker.process.join()
            worker.pipe.close()


def _repeat(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _hire(function: Callable[[Item], Result], workers: int) -> _Worker:
    ready(share(workers))
    context = get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Voice(io.TextIOBase):
    """Standard error of a worker: whole lines, for its parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._begun = pipe, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._pipe.send((False, line))
        return len(text)


def _serve(function: Callable[[Item], Result], pipe: Connection) -> None:
    """A worker's life: what comes through the pipe is worked on, until nothing more can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends its workers
    threading.Thread(target=_follow, daemon=True).start()
    with suppress(EOFError), redirect_stderr(_Voice(pipe)):
        while True:
            pipe.send((True, function(pipe.recv())))


def _follow() -> None:
    """End with the parent, however it ends: a run that nobody waits for would keep its folder from the next suite."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
