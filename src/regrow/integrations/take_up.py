"""What the adapters share: going on where a framework's own checkpoint has got to."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from regrow.core import files
from regrow.core.errors import RegrowError
from regrow.sparsifier import Sparsifier, sparsify

FILE = "sparsifier.pt"
"""Beside a framework's own files, in its checkpoint's folder."""


def take_up(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Any] | None, **setup: Any) -> Sparsifier:
    """`sparsify`, for a model and an optimizer into which a framework may have loaded a checkpoint already.

    Args:
        state: the sparsifier's, of that checkpoint; None at the start of a run.
        setup: what `sparsify` takes.

    Raises:
        RegrowError: as `sparsify` does, or the state belongs to another setup.
    """
    if state is None:
        return sparsify(model, optimizer, **setup)
    weights, moments = deepcopy(model.state_dict()), deepcopy(optimizer.state_dict())
    optimizer.state.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the first topology spoils weights that are put back at once
        sparsifier = sparsify(model, optimizer, **setup)
    sparsifier.load_state_dict(state)  # first: by its topology the rest finds its place
    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    return sparsifier


def write(sparsifier: Sparsifier, folder: Path) -> None:
    """Put the sparsifier's state into a checkpoint's folder, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(sparsifier.state_dict(), buffer)
    files.write(folder / FILE, buffer.getbuffer())


def read(folder: Path) -> dict[str, Any]:
    """The sparsifier's state in a checkpoint's folder, running no code from the file.

    Raises:
        RegrowError: there is none.
    """
    path = folder / FILE
    if not path.exists():
        raise RegrowError(
            f"{path} is missing: the checkpoint was written without the sparsifier, so it says nothing of masks and "
            "R_s. Start from its weights with topology='magnitude', or take a checkpoint that has the file"
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
