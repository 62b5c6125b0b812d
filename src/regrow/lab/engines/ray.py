"""The Ray engine: tasks of a Ray cluster, when the work has outgrown one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from regrow.core.errors import RegrowError
from regrow.lab.engines.base import Outcome, Task, work


class Ray:
    """The cluster that RAY_ADDRESS names, else this machine as one with room for `workers` runs."""

    def __init__(self, workers: int, jobs: Path) -> None:
        self.workers = workers

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        try:
            import ray
        except ModuleNotFoundError:
            raise RegrowError("--engine ray needs Ray: pip install 'regrow[ray]'") from None
        if not tasks:
            return
        cores = self.workers * tasks[0].threads
        ours = not ray.is_initialized()
        if ours:
            here = None if "RAY_ADDRESS" in os.environ else cores
            ray.init(num_cpus=here, include_dashboard=False, log_to_driver=False)
        try:
            # GPUs that a task does not ask for are hidden from it
            gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0) / self.workers)  # type: ignore[no-untyped-call]
            train = ray.remote(max_retries=0, num_gpus=gpus)(work)
            pending = {train.options(num_cpus=task.threads).remote(task): task for task in tasks}
            while pending:
                (done, *_), _ = ray.wait(list(pending))
                try:
                    failure = ray.get(done)
                except ray.exceptions.RayError as error:  # the process or its machine has died
                    failure = " ".join(str(error).split())
                yield pending.pop(done), failure
        finally:
            if ours:
                ray.shutdown()
