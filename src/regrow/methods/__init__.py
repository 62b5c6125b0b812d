"""The methods. `METHODS` is the table of contents: one line a method, with the values of its paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

from regrow.core import growth, scores
from regrow.core.errors import RegrowError, choose, nearest
from regrow.core.growth import GROWTHS
from regrow.core.schedules import Constant, Cosine, Every, Schedule
from regrow.methods.base import Method
from regrow.methods.drop_grow import DropGrow
from regrow.methods.gmp import GMP
from regrow.methods.granet import GraNet
from regrow.methods.snfs import REDISTRIBUTIONS, SNFS
from regrow.methods.static import Static

DROPS: dict[str, scores.Score] = {
    "magnitude": scores.magnitude,
    "signed": scores.signed,
    "taylor": scores.taylor,
    "momentum": scores.momentum,
    "random": scores.random,
}

ROUNDINGS: dict[str, Callable[[float], int]] = {"floor": math.floor, "ceil": math.ceil}

_itop = partial(DropGrow, fraction=Cosine(0.5, 0.005), rounding=math.ceil)

METHODS: dict[str, Callable[..., Method]] = {
    # a fixed random topology
    "static": Static,
    # Mocanu et al. 2018, arXiv:1707.04780: drop .3, grow at random; by magnitude, or sign by sign as in the paper
    "set": partial(DropGrow, fraction=Constant(0.3)),
    "set-signed": partial(DropGrow, drop=scores.signed, fraction=Constant(0.3)),
    # the same, dropping whatever has fallen below a threshold
    "set-threshold": partial(DropGrow, fraction=Constant(0.5), below=1e-2),
    # Evci et al. 2020, arXiv:1911.11134: grow by gradient; an update replaces the step; stops at 3/4 of training
    "rigl": partial(DropGrow, grow=growth.gradient, every=Every(100, end=0.75), replaces_step=True),
    # Liu et al. 2021, arXiv:2102.02887: rare, large updates until the end, so that much is explored (batch 128)
    "set-itop": partial(_itop, every=Every(1500)),
    "set-itop-unexplored": partial(_itop, grow=growth.unexplored, every=Every(1500)),
    "rigl-itop": partial(_itop, grow=growth.gradient, every=Every(4000)),
    "momentum-itop": partial(_itop, grow=growth.momentum, every=Every(4000)),
    "taylor-itop": partial(_itop, drop=scores.taylor, grow=growth.gradient, every=Every(4000)),
    # Dettmers & Zettlemoyer 2019, arXiv:1907.04840: sparse momentum
    "snfs": SNFS,
    # Zhu & Gupta 2017, arXiv:1710.01878: gradual magnitude pruning, from dense
    "gmp": GMP,
    # Liu et al. 2021, arXiv:2106.10404: gradual pruning with gradient growth; from dense with initial=1
    "granet": GraNet,
}

_TABLES: dict[str, dict[str, Any]] = {
    "drop": DROPS,
    "grow": GROWTHS,
    "redistribute": REDISTRIBUTIONS,
    "rounding": ROUNDINGS,
}


def build(name: str, **hyper: Any) -> Method:
    """The method called `name`, with some of its hyper-parameters changed.

    Rules may be given by name (`grow="gradient"`), and a number as `fraction` starts the method's own schedule there.

    Raises:
        RegrowError: an unknown method, hyper-parameter or rule.
    """
    return tuned(choose(METHODS, name, "method")(), f"method {name!r}", hyper)


def tuned(method: Method, called: str, hyper: dict[str, Any]) -> Method:
    """The method with some of its hyper-parameters changed, as in `build`; errors speak of it as it is `called`."""
    assert is_dataclass(method)
    valid = [field.name for field in fields(method)]
    for key, value in hyper.items():
        if key not in valid:
            raise RegrowError(
                f"{called} has no hyper-parameter {key!r}{nearest(key, valid) or '.'} Valid: {', '.join(valid)}."
            )
        if key in _TABLES and isinstance(value, str):
            hyper[key] = choose(_TABLES[key], value, f"{key} rule")
    if isinstance(hyper.get("fraction"), int | float):
        hyper["fraction"] = _started(method.fraction, float(hyper["fraction"]))
    made: Method = replace(method, **hyper)
    return made


def _started(schedule: Schedule, fraction: float) -> Schedule:
    if not 0.0 < fraction <= 1.0:
        raise RegrowError(f"fraction {fraction:g}: the share of weights replaced is in (0, 1]")
    return replace(schedule, start=fraction) if isinstance(schedule, Cosine) else Constant(fraction)
