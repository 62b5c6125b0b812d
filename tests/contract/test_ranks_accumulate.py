"""Two gloo ranks that accumulate micro-batches, however they write it, decide like one process on the whole batch."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from zoo import OPTIMIZERS, STEPS, batch, sparse, tiny_model

WAYS = ("no_sync", "synchronised twice", "bucket views", "channels last")
METHODS = ("rigl-itop", "snfs")


def decisions(method: str, way: str, rank: int = 0, world: int = 1) -> str:
    """The last topology of float64 training without BatchNorm, in two micro-batches a step."""
    torch.set_default_dtype(torch.float64)
    model = tiny_model()
    model[1] = nn.Identity()
    if way == "channels last":
        model = model.to(memory_format=torch.channels_last)
    run: nn.Module = model
    if world > 1:
        run = DistributedDataParallel(model, gradient_as_bucket_view=way == "bucket views")
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(run, optimizer, method)
    for step in range(1, STEPS + 1):
        for part in range(2):
            inputs, targets = (tensor.chunk(world)[rank] for tensor in batch(100 * step + part))
            waiting = world > 1 and way == "no_sync" and part == 0
            with run.no_sync() if waiting else nullcontext():  # type: ignore[operator]
                (nn.functional.cross_entropy(run(inputs.double()), targets) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_default_dtype(torch.float32)
    return sparsifier.topology.digest()


def rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = [decisions(method, way, rank, 2) for method in METHODS for way in WAYS]
    Path(folder, f"rank{rank}").write_text("\n".join(found))
    gc.collect()  # a model in a cycle holds the group, and its threads, until the interpreter dies: then it aborts
    distributed.destroy_process_group()


def test_ranks_accumulate(tmp_path: Path) -> None:
    alone = [decisions(method, way) for method in METHODS for way in WAYS]
    assert len(set(alone)) == len(METHODS)
    mp.spawn(rank_main, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"rank{rank}").read_text().split() == alone
