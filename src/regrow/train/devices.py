"""Where a run computes: Lightning Fabric brings device, precision and data-parallel processes."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL
from typing import TYPE_CHECKING

import torch
from torch import distributed

from regrow.core.errors import RegrowError, choose

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "mps": "mps"}
PRECISIONS = {"32-true": "32-true", "bf16-mixed": "bf16-mixed"}


@contextmanager
def launched(device: str = "auto", precision: str = "32-true") -> Iterator[Fabric]:
    """A Fabric, ready to use: one process, or this one of the processes `torchrun` started.

    Args:
        device: "auto" (an accelerator if there is one), "cpu", "cuda" or "mps".
        precision: "32-true", or "bf16-mixed" (autocast; weights and optimizer state stay float32).

    Raises:
        RegrowError: unknown device or precision, or a device that is not there.
    """
    choose(DEVICES, device, "device")
    choose(PRECISIONS, precision, "precision")
    if device == "cuda" and not torch.cuda.is_available():
        raise RegrowError("device 'cuda' is asked for and torch finds none here. Use device 'cpu' or 'auto'.")
    fabric = _fabric(device, precision)
    fabric.launch()
    if fabric.device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # a resumed run repeats the uninterrupted one
    yield fabric
    # Only a run that ended well says goodbye: after an error on one rank the others would wait here for ever.
    if distributed.is_available() and distributed.is_initialized():
        fabric.barrier()  # without it gloo aborts at exit in one run of four (measured)
        distributed.destroy_process_group()
        atexit.register(gc.collect)  # models in cycles hold gloo's threads: let them end before Python does


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Give torch `count` CPU threads for a while; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory() -> None:
    """What tensors give back stays with the process, for its next step.

    glibc returns large blocks to the system at once, which clears every page anew: a fifth of a sparse step of a small
    CNN (measured: benchmarks/results/convolutions_2026-11-20.md). Other C libraries are left as they are.
    """
    mallopt = getattr(CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD


def _fabric(device: str, precision: str) -> Fabric:
    from regrow.train.fabric import Fabric  # a second of imports, and only training needs it

    world = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return Fabric(
        accelerator=device,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]  # checked above
    )
