"""A model's state as it is held: of a sparse layer the vector of its weights, never the dense matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from regrow.core.errors import RegrowError

AS_HELD: ContextVar[bool] = ContextVar("regrow_as_held", default=False)
"""Sparse layers read it in their state_dict and load_state_dict."""


@contextmanager
def _as_held() -> Iterator[None]:
    before = AS_HELD.set(True)
    try:
        yield
    finally:
        AS_HELD.reset(before)


def held_state(model: nn.Module) -> dict[str, Tensor]:
    """`model.state_dict()`, in which a sparse layer's weight is its vector [nnz]. Nothing is copied.

    Raises:
        RegrowError: a module keeps something that is no tensor in its state.
    """
    with _as_held():
        state: dict[str, Any] = model.state_dict()
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise RegrowError(f"the state of the model has {key!r}, a {type(value).__name__}: only tensors can be kept")
    return state


def load_held(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`model.load_state_dict` of a `held_state`, by a model whose sparse layers have its topology already."""
    with _as_held():
        model.load_state_dict(dict(state))
