"""What runs in the killed processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

FILE_CALLS = ("write", "fsync", "replace")
UPDATE_CALLS = ("commit", "restore", "move")
"""What an update consists of: masked, `commit` calls `restore` half-way; sparse, it moves one layer after the other."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL `before`, in the `middle` (of a write) or `after` the n-th of these calls."""

    calls: tuple[str, ...]
    at: int
    moment: str


def spawn(folder: Path, kill: Kill | None = None, **changes: Any) -> ForkServerProcess:
    """A process that trains the small run in `folder`, to the end or to its kill."""
    process = multiprocessing.get_context("forkserver").Process(target=train, args=(folder, kill, changes))
    process.start()
    return process


def train(folder: Path, kill: Kill | None, changes: dict[str, Any]) -> None:
    """Runs in the child."""
    import torch
    from small_run import small_job

    from regrow.execution.sparse_linear import SparseLinear
    from regrow.train.loop import fit
    from regrow.train.paths import RunFolder

    os.chdir(folder.parent)  # outside any repository: no commit to change while the test runs
    torch.set_num_threads(2)
    job = small_job(threads=2, **changes)
    if kill is None or kill.calls == FILE_CALLS:
        log = watched(kill)
    else:
        log = []
        assert job.sparsifier is not None
        backend = job.sparsifier.backend
        owners = [backend, *(m for m in job.model.modules() if isinstance(m, SparseLinear))]
        for owner, name in ((o, n) for o in owners for n in UPDATE_CALLS if hasattr(o, n)):
            setattr(owner, name, counted(name, getattr(owner, name), log, kill))
    fit(job, RunFolder(folder))
    folder.with_suffix(".calls").write_text("\n".join(log))


def watched(kill: Kill | None) -> list[str]:
    """Every call that writes a file, from here on."""
    log: list[str] = []
    for name in FILE_CALLS:
        setattr(os, name, counted(name, getattr(os, name), log, kill))
    return log


def counted(name: str, call: Callable[..., Any], log: list[str], kill: Kill | None) -> Callable[..., Any]:
    """`call`, noted in `log` as it begins; the process dies at the moment that `kill` names. Ours only: the standard
    library writes to pipes of its own."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not sys._getframe(1).f_globals["__name__"].startswith("regrow."):
            return call(*args, **kwargs)
        here = kill is not None and len(log) == kill.at
        log.append(name)
        if here and kill.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if here and kill.moment == "middle":
            call(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **kwargs)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped
