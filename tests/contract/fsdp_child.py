"""One rank of two, under torchrun: the same runs with FSDP2 and with DDP, and what each came to."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from zoo import OPTIMIZERS, STEPS, batch, sparse

from regrow.core.errors import RegrowError
from regrow.execution.shards import local, whole
from regrow.tickets import Ticket

RANK = int(os.environ["RANK"])
METHODS = ("set", "rigl", "rigl-itop", "granet")
KINDS = ("sgd-momentum", "adamw")
MANNERS = ((3, "plain"), (1, "clip"), (1, "skip"), (1, "skip-zeroed"), (3, "skip-zeroed"))
"""Micro-batches, and how."""


def net() -> nn.Sequential:
    """Layers whose rows do not divide by two."""
    torch.manual_seed(0)
    layers = (
        nn.Flatten(),
        nn.Linear(36, 23),
        nn.LayerNorm(23),
        nn.ReLU(),
        nn.Linear(23, 15),
        nn.ReLU(),
        nn.Linear(15, 4),
    )
    return nn.Sequential(*layers).double()


def sharded() -> nn.Module:
    model = net()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in (model[1], model[4], model[6]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)  # type: ignore[no-any-return]


def unsharded() -> nn.Module:
    return DistributedDataParallel(net())


def run(make: Callable[[], nn.Module], method: str, kind: str, parts: int, manner: str) -> dict[str, Any]:
    """Train; `parts` micro-batches make a step. GradScaler skips the first attempt at step 6, an update, as inf."""
    model = make()
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=manner.startswith("skip"))
    for step in range(1, STEPS + 1):
        for fault in (torch.inf, 1.0) if step == 6 and scaler.is_enabled() else (1.0,):
            for part in range(parts):
                inputs, targets = batch(1000 * step + 10 * part + RANK)
                loss = nn.functional.cross_entropy(model(inputs.double()), targets) / parts
                scaler.scale(loss * fault).backward()
            if manner == "clip":
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=manner != "skip-zeroed")
    ticket = Ticket.of(model, sparsifier)
    held = {name: local(p.detach()).numel() for name, p in model.named_parameters()}
    sparsifier.finalize()
    weights = {n.removeprefix("module."): whole(p.detach()).tolist() for n, p in model.named_parameters()}
    return {
        "topology": sparsifier.topology.digest(),
        "explored": sparsifier.exploration_rate,
        "weights": weights,
        "ticket": {name: value.tolist() for name, value in ticket.state_dict().items()},
        "held": sum(held.values()),
    }


def refusal(method: str, **more: Any) -> str:
    model = sharded()
    try:
        sparse(model, OPTIMIZERS["sgd-momentum"](model.parameters()), method, **more)
    except RegrowError as error:
        return str(error)
    return "accepted"


def main(root: Path) -> None:
    dist.init_process_group("gloo")
    cases = [(method, kind, 1, "plain") for method in METHODS for kind in KINDS]
    cases += [("rigl-itop", "sgd-momentum", *how) for how in MANNERS]
    seen: dict[str, Any] = {}
    for case in cases:
        seen[" ".join(map(str, case))] = [run(make, *case) for make in (sharded, unsharded)]
    seen["snfs"] = refusal("snfs")
    seen["snip"] = refusal("static", topology="snip", batch=batch(1))
    seen["sparse"] = refusal("set", backend="sparse")
    (root / f"rank{RANK}.json").write_text(json.dumps(seen))
    dist.barrier()
    gc.collect()  # a sharded model in a cycle outlives its group, and gloo then aborts at exit, now and then
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
