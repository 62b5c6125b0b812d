"""The study as it was written down (study.yaml), and what has finished of it (results.jsonl, one line a run)."""

from __future__ import annotations

import fcntl
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError, model_validator

from regrow.core.errors import RegrowError, choose
from regrow.recipe.load import parse, recipe_of
from regrow.recipe.schema import Recipe, Spec
from regrow.train import atomic

Changes = dict[str, Any]
Names = Annotated[tuple[str, ...], Strict(False)]
Result = dict[str, Any]
Results = dict[tuple[str, int], Result]  # by (cell, seed)


class Rise(Spec):
    """Test accuracy rises with R_s over these cells: the slope, points per unit of R_s, lies above `bound`."""

    claim: str
    rises: Names
    bound: float = 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        return self.rises


class Paired(Spec):
    """Accuracy of one cell minus that of another, same seed, lies above `bound` (points)."""

    claim: str
    of: str
    against: str
    bound: float = 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        return self.of, self.against


Comparison = Rise | Paired


class Cells(Spec):
    """Name -> what differs from the base recipe, in the order in which the cells are run."""

    primary: dict[str, Changes]
    secondary: dict[str, Changes]


class Study(Spec):
    """Cells times seeds, and the claims they are to decide."""

    name: str
    about: str
    seeds: Annotated[tuple[int, ...], Strict(False)] = Field(min_length=2)
    level: float = Field(0.05, gt=0, lt=1)
    rule: str
    base: Changes
    cells: Cells
    comparisons: dict[str, Annotated[tuple[Comparison, ...], Strict(False)]]

    @model_validator(mode="after")
    def _whole(self) -> Study:
        for comparison in (each for table in self.comparisons.values() for each in table):
            for cell in comparison.cells:
                choose(self.recipes, cell, f"cell in the claim {comparison.claim!r}:")
        return self

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Cell -> its whole recipe, primary cells first."""
        changes = self.cells.primary | self.cells.secondary
        return {cell: recipe_of(self.base | own | {"name": cell}, f"cell {cell!r}") for cell, own in changes.items()}

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Every run, in the order of importance: a comparison is whole as early as it can be."""
        return [(cell, seed) for cell in self.recipes for seed in self.seeds]


def load(home: Path) -> Study:
    """The study in the folder `home`.

    Raises:
        RegrowError: a key, cell or recipe that cannot be.
    """
    path = home / "study.yaml"
    try:
        return Study.model_validate(parse(path.read_text(encoding="utf-8"), str(path)))
    except ValidationError as error:
        raise RegrowError(f"{path}: {error}") from None


def finished(study: Study, home: Path) -> Results:
    """What results.jsonl holds. A torn last line is dropped; of two runs of one pair the first one counts.

    Raises:
        RegrowError: a line of no such cell, or of another recipe than the cell now has.
    """
    results: Results = {}
    for number, line in enumerate(atomic.lines(home / "results.jsonl"), 1):
        where = f"{home / 'results.jsonl'}, line {number}"
        try:
            result = json.loads(line)
        except ValueError as error:
            raise RegrowError(f"{where} is not JSON ({error}): remove the line, and its run is made again.") from None
        recipe = choose(study.recipes, result["cell"], f"cell in {where}:")
        if result["recipe"] != recipe.hash8:
            raise RegrowError(
                f"{where}: cell {result['cell']!r} ran as recipe {result['recipe']}, but is {recipe.hash8} in "
                "study.yaml. Results belong to the study they were made for: change it back, or empty results.jsonl."
            )
        results.setdefault((result["cell"], result["seed"]), result)
    return results


def add(home: Path, result: Result) -> None:
    """Append one line to results.jsonl, whole and on disk before the return; a torn last line gives way to it."""
    with (home / "results.jsonl").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several workers, and several calls, write here
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(result).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
