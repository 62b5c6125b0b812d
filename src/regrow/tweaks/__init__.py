"""The tweaks. `TWEAKS` is the table of contents: ToST's four, with the values of its paper where it gives them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from regrow.core.errors import RegrowError, choose, nearest
from regrow.tweaks.base import Context, Tweak, is_ghost
from regrow.tweaks.ghost_skip import GhostSkip
from regrow.tweaks.label_smoothing import LabelSmoothing
from regrow.tweaks.rescaled_init import RescaledInit
from regrow.tweaks.soft_activation import SoftActivation

__all__ = [
    "TWEAKS",
    "Context",
    "GhostSkip",
    "LabelSmoothing",
    "RescaledInit",
    "SoftActivation",
    "Tweak",
    "build",
    "is_ghost",
]

TWEAKS: dict[str, type[Tweak]] = {
    # ReLU begins as x sigmoid(beta x) and hardens
    "soft-activation": SoftActivation,
    # dense paths around sparse layers that fade
    "ghost-skip": GhostSkip,
    # a scale for every tensor of the initialisation: GradInit (Zhu et al. 2021, arXiv:2102.08098) under the mask
    "rescaled-init": RescaledInit,
    # labels that give up a share, for good or for a while
    "label-smoothing": LabelSmoothing,
}


def build(name: str, **hyper: Any) -> Tweak:
    """The tweak called `name`, with some of its hyper-parameters changed.

    Raises:
        RegrowError: an unknown tweak or hyper-parameter, or a value of another kind than its own.
    """
    kind = choose(TWEAKS, name, "tweak")
    own = {field.name: field.default for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for key, value in hyper.items():
        if key not in own:
            raise RegrowError(
                f"tweak {name!r} has no hyper-parameter {key!r}{nearest(key, own) or '.'} Valid: {', '.join(own)}."
            )
        hyper[key] = _checked(f"tweak {name!r}: {key}", value, own[key])
    return kind(**hyper)


def _checked(called: str, value: Any, own: Any) -> Any:
    """`value` if it may stand where the tweak has `own`; lists are taken for tuples, whole numbers for real ones."""
    if isinstance(own, tuple) and isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if own is None or (isinstance(own, float) and number):
        if value is None or number:
            return value if value is None else float(value)
    elif type(value) is type(own):
        return value
    raise RegrowError(f"{called} is {value!r}, but should be like its own, {own!r}")
