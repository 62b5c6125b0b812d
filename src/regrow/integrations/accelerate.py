"""Accelerate: `accelerator.save_state` and `load_state` keep and restore the masks and R_s of a sparsifier too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator  # type: ignore[import-untyped, unused-ignore]
from torch import nn
from torch.optim import Optimizer

from regrow.integrations.take_up import read, write
from regrow.sparsifier import Sparsifier, sparsify


def sparsify_with(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, **setup: Any) -> Sparsifier:
    """`regrow.sparsify` for what `accelerator.prepare` returned, kept in the accelerator's checkpoints from now on.

    Args:
        setup: what `regrow.sparsify` takes.

    Raises:
        RegrowError: as `sparsify` does; at `load_state`, a checkpoint without `sparsifier.pt`.
    """
    sparsifier = sparsify(model, optimizer, **setup)

    def save(models: list[nn.Module], weights: list[Any], folder: str) -> None:
        if accelerator.is_main_process:
            write(sparsifier, Path(folder))

    def load(models: list[nn.Module], folder: str) -> None:
        sparsifier.load_state_dict(read(Path(folder)))  # before the model: by its topology the rest finds its place

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
    return sparsifier
