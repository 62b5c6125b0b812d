"""What a run consists of at one step: to the checkpoint, from it, and into the final record."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train import checkpoint
from regrow.train.surroundings import differences

if TYPE_CHECKING:
    from regrow.train.job import Job
    from regrow.train.paths import RunFolder
    from regrow.train.record import Record

Content = dict[str, Any]


def content_of(job: Job, step: int) -> Content:
    """The job's state after `step` optimizer steps."""
    return {
        "step": step,
        "plan": job.plan,
        "model": dict(job.model.state_dict()),
        "optimizer": job.optimizer.state_dict(),
        "scheduler": job.scheduler and job.scheduler.state_dict(),
        "sparsifier": job.sparsifier and job.sparsifier.state_dict(),
    }


def restore(job: Job, folder: RunFolder) -> Content:
    """Load the folder's checkpoint into the job's objects; returns its content, `step` among it.

    Raises:
        RegrowError: an unusable checkpoint, or one of another run.
    """
    content = checkpoint.load(folder.checkpoint)
    changed = differences(content["plan"], job.plan)
    if changed:
        raise RegrowError(
            f"{folder.path} holds another run ({'; '.join(changed)}). Use another folder for this one, or delete that."
        )
    try:
        job.model.load_state_dict(content["model"])
        job.optimizer.load_state_dict(content["optimizer"])
        for part, name in ((job.sparsifier, "sparsifier"), (job.scheduler, "scheduler")):
            if (part is None) != (content[name] is None):
                raise RegrowError(f"one has a {name} and the other has none")
            if part is not None:
                part.load_state_dict(content[name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise RegrowError(
            f"the checkpoint {folder.checkpoint} does not fit this job: {error} It was written by another model, "
            "optimizer or method. Use another folder for this job, or delete that one."
        ) from error
    return content


def exploration(job: Job) -> Record:
    """Exploration rate R_s and density, overall; a dense run has explored everything."""
    sparsifier = job.sparsifier
    return {
        "exploration_rate": sparsifier.exploration_rate if sparsifier else 1.0,
        "density": sparsifier.density if sparsifier else 1.0,
    }


def final_state(job: Job) -> Record:
    """R_s, densities, sizes and digests of the last iterate. `nnz` and `numel` count the sparse sites' weights."""
    sparsifier = job.sparsifier
    parameters = sum(parameter.numel() for parameter in job.model.parameters())
    return {
        **exploration(job),
        "exploration_by_layer": sparsifier.explored.densities() if sparsifier else {},
        "density_by_layer": sparsifier.topology.densities() if sparsifier else {},
        "nnz": sparsifier.topology.nnz if sparsifier else parameters,
        "numel": sparsifier.topology.numel if sparsifier else parameters,
        "parameters": parameters,
        "bytes": held_bytes(job),
        "topology_digest": sparsifier.topology.digest() if sparsifier else None,
        "model_digest": checkpoint.digest(dict(job.model.state_dict())),
    }


def held_bytes(job: Job) -> int:
    """Memory of parameters, buffers and optimizer state as they are held, so the masked backend saves none."""
    slots = (value for state in job.optimizer.state.values() for value in state.values())
    return _bytes(chain(job.model.parameters(), job.model.buffers(), (s for s in slots if isinstance(s, Tensor))))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
