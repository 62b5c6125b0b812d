"""What there is to choose from, in words."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from regrow.core.schedules import Every
from regrow.methods import METHODS


def methods_table() -> list[dict[str, str]]:
    """Per method: its name, what it does in a line, and its hyper-parameters as they stand."""
    return [{"method": name, **_card(METHODS[name]())} for name in METHODS]


def _card(method: Any) -> dict[str, str]:
    assert is_dataclass(method)
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    if (every := values.pop("every", None)) is None:
        return {"does": "keeps its first topology", "defaults": ""}
    prunes = [f"prunes from density {values['initial']:g}"] if "initial" in values else []
    moves = [f"{verb}s by {_word(values.pop(verb))}" for verb in ("drop", "grow") if verb in values]
    order = "in place of a step" if values.pop("replaces_step") else "after a step"
    does = ", ".join([*prunes, *moves, order])
    shown = {"every": _window(every), **{key: _word(value) for key, value in values.items() if value != float("inf")}}
    return {"does": does, "defaults": ", ".join(f"{key}={value}" for key, value in shown.items())}


def _window(every: Every) -> str:
    window = "" if (every.start, every.end) == (0.0, 1.0) else f" in {every.start:g}..{every.end:g} of the run"
    return f"{every.interval} steps{window}"


def _word(value: Any) -> str:
    if name := getattr(value, "__name__", None):
        return str(name).removeprefix("by_")
    if is_dataclass(value):
        inside = (getattr(value, field.name) for field in fields(value))
        return f"{type(value).__name__.lower()}({', '.join(f'{v:g}' for v in inside)})"
    return str(value)
