"""The `distill` block of a recipe: who teaches it, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, Strict

from regrow.recipe.spec import Spec


def _listed(value: object) -> object:
    """One path is a list of one."""
    return [value] if isinstance(value, str) else value


class DistillSpec(Spec):
    teacher: Annotated[tuple[str, ...], Strict(False), BeforeValidator(_listed)] = Field(
        min_length=1,
        description="finished runs, folders of runs, or tickets, whose mean probability is learnt; `{seed}` in a path "
        "is the run's own seed",
    )
    temperature: float = Field(1.0, gt=0, description="of teacher and student, > 0")
    share: float = Field(1.0, ge=0, le=1, description="of the teacher in the loss, in [0, 1]; the rest is the labels'")

    def paths(self, seed: int) -> list[Path]:
        """Of the teachers of this seed."""
        return [Path(path.replace("{seed}", str(seed))) for path in self.teacher]


def taught(value: object) -> object:
    """The path of a run is short for `{teacher: PATH}`."""
    return {"teacher": value} if isinstance(value, str) else value
