"""The Slurm engine: an array of jobs, through submitit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from regrow.core.errors import RegrowError
from regrow.lab.engines.base import Outcome, Task, work

MINUTES = 24 * 60
"""Of a job, unless SBATCH_TIMELIMIT says otherwise; sbatch reads partition and account from its own variables too."""
LOOK = 1.0  # seconds between two looks at the jobs


class Slurm:
    """A job for each run, `workers` at a time; what the jobs print is in `jobs`. The other cluster is "local"."""

    def __init__(self, workers: int, jobs: Path, cluster: str = "slurm") -> None:
        self.workers, self.jobs, self.cluster = workers, jobs, cluster

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        try:
            import submitit
        except ModuleNotFoundError:
            raise RegrowError("--engine slurm needs submitit: pip install 'regrow[slurm]'") from None
        if not tasks:
            return
        try:
            executor = submitit.AutoExecutor(self.jobs, cluster=self.cluster)
        except RuntimeError as error:
            raise RegrowError(f"--engine slurm: {error}. Call it where `srun` is, or use --engine local.") from None
        executor.update_parameters(
            name="regrow", cpus_per_task=tasks[0].threads, timeout_min=MINUTES, slurm_array_parallelism=self.workers
        )
        pending = dict(zip(executor.map_array(work, tasks), tasks, strict=True))
        try:
            while pending:
                ended = [job for job in pending if job.done()]
                for job in ended:
                    broken = job.exception()
                    failure = " ".join(str(broken).split()) if broken else job.result()
                    yield pending.pop(job), failure
                if not ended:
                    time.sleep(LOOK)
        finally:
            for job in pending:
                job.cancel()
