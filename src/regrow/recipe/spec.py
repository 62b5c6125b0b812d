"""What all blocks of a recipe have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A strict, frozen block of a recipe."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OpenSpec(BaseModel):
    """A named block whose other keys are the options of the thing it names, checked where it is built."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keys beyond the declared ones."""
        return dict(self.__pydantic_extra__ or {})


def named(value: object) -> object:
    """`sgd` is short for `{name: sgd}`."""
    return {"name": value} if isinstance(value, str) else value
