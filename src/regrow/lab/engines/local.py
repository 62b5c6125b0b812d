"""The local engine: processes of this machine, each trains one run after another."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from regrow.lab.engines.base import Outcome, Task, work


@dataclass(frozen=True)
class _Worker:
    process: ForkServerProcess
    pipe: Connection


class Local:
    """`workers` processes. One that dies takes its run with it, and another takes its place."""

    def __init__(self, workers: int, jobs: Path) -> None:
        self.workers = workers

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        waiting = deque(tasks)
        idle: list[_Worker] = []
        busy: dict[Connection, tuple[_Worker, Task]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.workers:
                    worker, task = idle.pop() if idle else _hire(waiting[0].threads), waiting.popleft()
                    busy[worker.pipe] = worker, task
                    with suppress(BrokenPipeError):  # it has died, which is seen below
                        worker.pipe.send(task)
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)
                    worker, task = busy.pop(pipe)
                    try:
                        failure = pipe.recv()
                        idle.append(worker)
                    except (EOFError, ConnectionResetError):
                        worker.process.join()
                        failure = f"its process has ended with code {worker.process.exitcode}"
                    yield task, failure
        finally:
            for worker in [*idle, *(worker for worker, _ in busy.values())]:
                worker.process.terminate()
                worker.process.join()
                worker.pipe.close()


def _hire(threads: int) -> _Worker:
    context = get_context("forkserver")
    context.set_forkserver_preload([work.__module__])  # torch is loaded once, by the server that forks the workers
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with _environment(OMP_NUM_THREADS=str(threads)):  # read when torch is loaded
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


def _serve(pipe: Connection) -> None:
    """A worker's life: what comes through the pipe is trained, until nothing more can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends its workers
    threading.Thread(target=_follow, daemon=True).start()
    with suppress(EOFError):
        while True:
            pipe.send(work(pipe.recv()))


def _follow() -> None:
    """End with the parent, however it ends: a run that nobody waits for would keep its folder from the next suite."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
