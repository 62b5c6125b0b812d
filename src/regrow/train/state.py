"""What a run consists of at one step: to the checkpoint, from it, and into the final record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.tickets.compact import Survivors, compact, expand, held_state, load_held, survivors
from regrow.train import checkpoint
from regrow.train.surroundings import differences

if TYPE_CHECKING:
    from regrow.train.job import Job
    from regrow.train.paths import RunFolder
    from regrow.train.record import Record

Content = dict[str, Any]


def content_of(job: Job, step: int) -> Content:
    """The job's state after `step` optimizer steps: of sparse weights and their optimizer state only what exists."""
    alive = _survivors(job)
    return {
        "step": step,
        "identity": job.identity,
        "model": _each(held_state(job.model), alive, compact),
        "optimizer": _each_slot(job, job.optimizer.state_dict(), alive, compact),
        "scheduler": job.scheduler and job.scheduler.state_dict(),
        "sparsifier": job.sparsifier and job.sparsifier.state_dict(),
    }


def restore(job: Job, folder: RunFolder) -> Content:
    """Load the folder's checkpoint into the job's objects; returns its content, `step` among it.

    Raises:
        RegrowError: an unusable checkpoint, or one of another run.
    """
    content = checkpoint.load(folder.checkpoint)
    changed = differences(content["identity"], job.identity)
    if changed:
        raise RegrowError(
            f"{folder.path} holds another run ({'; '.join(changed)}). Use another folder for this one, or delete that."
        )
    try:
        for part, name in ((job.sparsifier, "sparsifier"), (job.scheduler, "scheduler")):
            if (part is None) != (content[name] is None):
                raise RegrowError(f"one has a {name} and the other has none")
        if job.sparsifier:  # first: by its topology the rest finds its place
            job.sparsifier.load_state_dict(content["sparsifier"])
        alive = _survivors(job)
        load_held(job.model, _each(content["model"], alive, expand))
        job.optimizer.load_state_dict(_each_slot(job, content["optimizer"], alive, expand))
        if job.scheduler:  # last: it may set the optimizer's learning rate
            job.scheduler.load_state_dict(content["scheduler"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise RegrowError(
            f"the checkpoint {folder.checkpoint} does not fit this job: {error} It was written by another model, "
            "optimizer or method. Use another folder for this job, or delete that one."
        ) from error
    return content


Change = Callable[[Any, Survivors], Any]


def _survivors(job: Job) -> dict[str, Survivors]:
    return survivors(job.model, job.sparsifier.topology) if job.sparsifier else {}


def _each(state: Mapping[str, Any], alive: Mapping[str, Survivors], change: Change) -> Content:
    return {name: change(held, alive[name]) if name in alive else held for name, held in state.items()}


def _each_slot(job: Job, state: Content, alive: Mapping[str, Survivors], change: Change) -> Content:
    """The optimizer's state_dict, with `change` made to what it keeps for weights of which not all exist."""
    names = {id(parameter): name for name, parameter in job.model.named_parameters()}
    order = [names.get(id(p), "") for group in job.optimizer.param_groups for p in group["params"]]
    of = {number: alive[name] for number, name in enumerate(order) if name in alive}
    slots = {
        number: {key: change(value, of[number]) for key, value in entries.items()} if number in of else entries
        for number, entries in state["state"].items()
    }
    return {**state, "state": slots}


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
        "backend": sparsifier.backend_name if sparsifier else None,
        "decision": sparsifier.decision if sparsifier else None,
        "bytes": held_bytes(job),
        "bytes_topology": topology_bytes(job),
        "topology_digest": sparsifier.topology.digest() if sparsifier else None,
        "model_digest": checkpoint.digest(dict(job.model.state_dict())),
    }


def held_bytes(job: Job) -> int:
    """Memory of parameters, buffers and optimizer state as they are held, so the masked backend saves none."""
    slots = (value for state in job.optimizer.state.values() for value in state.values())
    return _bytes(chain(job.model.parameters(), job.model.buffers(), (s for s in slots if isinstance(s, Tensor))))


def topology_bytes(job: Job) -> int:
    """Memory of what sparse training keeps besides: positions, indices, masks, what was explored."""
    own = _storages([*job.model.parameters(), *job.model.buffers(), job.optimizer.state, job.data])
    return sum(size for at, size in _storages(job.sparsifier).items() if at not in own)


def _storages(root: object) -> dict[int, int]:
    """Address -> bytes of every tensor's memory that can be reached through attributes and containers."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, str | type):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            found[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif isinstance(thing, dict):
            todo += thing.values()
        elif isinstance(thing, list | tuple | set):
            todo += thing
        else:
            todo += getattr(thing, "__dict__", {}).values()
            todo += [getattr(thing, slot) for slot in getattr(type(thing), "__slots__", ()) if hasattr(thing, slot)]
    return found


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
