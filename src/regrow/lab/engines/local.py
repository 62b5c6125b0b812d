"""The local engine: processes of this machine, each trains one run after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from regrow.lab.crew import Died, together
from regrow.lab.engines.base import Outcome, Task, work


class Local:
    """`workers` processes. One that dies takes its run with it, and another takes its place."""

    def __init__(self, workers: int, jobs: Path) -> None:
        self.workers = workers

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task, found in together(work, tasks, self.workers):
            yield task, str(found) if isinstance(found, Died) else found
