"""Faster: functions of core in whose place compiled code may step, to the bit. Core itself knows plain torch only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

FASTER: dict[str, Callable[..., object]] = {}
"""Name of a function -> the same on kernels, or NotImplemented for tensors they do not take. Execution fills it."""


def may_be_faster(function: Callable[P, R]) -> Callable[P, R]:
    """Lets an entry of FASTER do it. The plain function stays reachable as `__wrapped__`, the oracle of the tests."""
    name = function.__name__

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        faster = FASTER.get(name)
        done = NotImplemented if faster is None else faster(*args, **kwargs)
        return function(*args, **kwargs) if done is NotImplemented else done  # type: ignore[return-value]

    return run
