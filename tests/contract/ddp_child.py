"""One rank of two, under torchrun: trains the small run in every way the test asks about, and notes what it saw."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_run import small_job, small_model
from torch import distributed

import regrow
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.tickets.plan import PlanLR, sup_tickets
from regrow.tickets.superpose import CIA
from regrow.train import checkpoint
from regrow.train.devices import launched
from regrow.train.job import Job
from regrow.train.loop import Progress, fit
from regrow.train.paths import RunFolder

RANK = int(os.environ["RANK"])


class Stopped(Exception):
    pass


def ends_of(job: Job) -> dict[str, Any]:
    assert job.sparsifier is not None
    return {
        "weights": checkpoint.digest(dict(job.model.named_parameters())),
        "buffers": checkpoint.digest(dict(job.model.named_buffers())),
        "topology": job.sparsifier.topology.digest(),
        "explored": job.sparsifier.explored.digest(),
        "start": small_job().sparsifier.topology.digest(),
    }


def refusal(make: Callable[[], Job], folder: RunFolder, fabric: Any) -> str:
    try:
        fit(make(), folder, fabric)
    except RegrowError as error:
        return str(error)
    return "accepted"


def stopped(job: Job) -> Job:
    """The job, stopping on both ranks before step 8."""
    calls: list[int] = []

    def before_step(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise Stopped

    job.optimizer.register_step_pre_hook(before_step)
    return job


def other_topology() -> Job:
    """One connection is cut on rank 1 before the third step."""
    job = small_job()
    sparsifier = job.sparsifier
    assert sparsifier is not None

    def cut(*_: Any) -> None:
        if sparsifier.step == 2 and RANK == 1:
            masks = {name: mask.clone() for name, mask in sparsifier.topology.items()}
            flat = masks["3.weight"].view(-1)
            flat[int(flat.nonzero()[0])] = False
            sparsifier.backend.commit(Topology.from_masks(masks))

    job.optimizer.register_step_pre_hook(cut)
    return job


def other_weights() -> Job:
    job = small_job()
    job.model.load_state_dict(small_model(seed=RANK).state_dict())
    return job


def on_a_plan(cycle: int = 3) -> Job:
    """Half the run trains, then two cycles that explore, whose tickets are averaged."""
    job = small_job()
    plan = sup_tickets(12 - 2 * cycle, cycle, 2)
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = regrow.sparsify(model, optimizer, method="rigl-itop", density=0.2, plan=plan, every=2, seed=3)
    changes = {"scheduler": PlanLR(optimizer, plan), "plan": plan, "superposition": lambda loss: CIA()}
    return dataclasses.replace(job, model=model, optimizer=optimizer, sparsifier=sparsifier, **changes)


DISAGREEMENTS: dict[str, Callable[[], Job]] = {
    "other seed": lambda: small_job(seed=3 + RANK),
    "other batch size": lambda: dataclasses.replace(small_job(), batch_size=16 + 8 * RANK),
    "other plan": lambda: on_a_plan(cycle=3 - RANK),
    "other weights": other_weights,
    "other topology": other_topology,
}


def main(root: Path) -> None:
    os.chdir(root)
    broadcasts: list[tuple[int, ...]] = []
    broadcast = distributed.broadcast
    distributed.broadcast = lambda tensor, *rest: (broadcasts.append(tensor.shape), broadcast(tensor, *rest))[1]
    seen: dict[str, Any] = {}
    with launched("cpu") as fabric:
        told: list[Progress] = []
        job = small_job()
        seen["result"] = fit(job, RunFolder(root / "whole"), fabric, on_progress=told.append)
        seen["whole"] = ends_of(job)
        seen["told"] = len(told)
        seen["broadcasts"] = sorted({tuple(shape) for shape in broadcasts})
        try:
            fit(stopped(small_job()), RunFolder(root / "resumed"), fabric)
        except Stopped:
            job = small_job()
            fit(job, RunFolder(root / "resumed"), fabric)
            seen["resumed"] = ends_of(job)
        seen["tickets"] = fit(on_a_plan(), RunFolder(root / "tickets"), fabric)
        for name, make in DISAGREEMENTS.items():
            seen[name] = refusal(make, RunFolder(root / name), fabric)
    (root / f"rank{RANK}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
