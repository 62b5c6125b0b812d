"""A study as it was written down (study.yaml), and what has finished of it (results.jsonl, a line a cell and seed)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from benchmarks.studies.measures import Measures
from pydantic import Field, Strict, ValidationError, model_validator

from regrow.core.errors import RegrowError, choose
from regrow.recipe.load import parse, recipe_of
from regrow.recipe.plans import AnySuperpose
from regrow.recipe.schema import Names, Recipe
from regrow.recipe.spec import Spec
from regrow.train import atomic

BENCHMARKS = Path(__file__).parents[1]

Changes = dict[str, Any]
Seeds = Annotated[tuple[int, ...], Strict(False)]
Result = dict[str, Any]
Pair = tuple[str, int]  # cell, seed
Results = dict[Pair, Result]


class Rise(Spec):
    """Test accuracy rises with R_s over these cells: the slope, points per unit of R_s, lies above `bound`."""

    claim: str
    rises: Names
    bound: float = 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        return self.rises


class Paired(Spec):
    """What one cell is worth minus what another is, same seed, lies above `bound`.

    Args:
        measure: a key of the result lines; accuracies, ECE and AUROC count in points, and the lower NLL or ECE is the
            better one.
        system: of `against`, other than the one its line stands for: "ensemble", "member 0", ...
    """

    claim: str
    of: str
    against: str
    bound: float = 0.0
    measure: str = "test_accuracy"
    system: str | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        return self.of, self.against


class Differs(Spec):
    """Test accuracies of two cells, over all seeds that both have, come from different distributions
    (Kolmogorov-Smirnov, two samples, two-sided), the mean of the first above that of the second."""

    claim: str
    differs: Annotated[tuple[str, str], Strict(False)]
    bound: float = 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        return self.differs


Comparison = Rise | Paired | Differs


class Derived(Spec):
    """A cell that trains nothing: what runs of another cell left, as one ensemble or as another average.

    Args:
        of: the cell whose tickets they are.
        members: M; seed k is made of the runs of seeds Mk ... Mk + M - 1.
        superpose: how the tickets of the run are averaged; an ensemble when None.
    """

    of: str
    members: int = Field(1, gt=0)
    superpose: AnySuperpose | None = None

    def sources(self, seed: int) -> list[Pair]:
        """The runs that seed `seed` is made of."""
        return [(self.of, seed * self.members + member) for member in range(self.members)]


class Cells(Spec):
    """Name -> what differs from the base recipe, or how it is derived, in the order in which the cells are run."""

    primary: dict[str, Changes]
    secondary: dict[str, Changes]


class Costs(Spec):
    """What a run is expected to cost on one thread, in core-seconds, before one has finished.

    Args:
        dense: of an epoch, dense or masked.
        sparse: [a, b]: a + b x density of an epoch on the sparse backend.
        line: of measuring one line.
    """

    dense: float
    sparse: Annotated[tuple[float, float], Strict(False)]
    line: float = 0.0

    def run(self, recipe: Recipe) -> float:
        """Of one run and its line."""
        epoch = self.dense
        if recipe.backend == "sparse":
            epoch = self.sparse[0] + self.sparse[1] * (recipe.density or 1.0)
        return recipe.total_epochs * epoch + self.line


class Study(Spec):
    """Cells times seeds, what is measured of them, and the claims they are to decide."""

    name: str
    about: str
    seeds: Seeds = Field(min_length=2)
    level: float = Field(0.05, gt=0, lt=1)
    rule: str
    measures: Measures | None = None
    costs: Costs | None = None
    base: Changes
    cells: Cells
    comparisons: dict[str, Annotated[tuple[Comparison, ...], Strict(False)]]

    @model_validator(mode="after")
    def _whole(self) -> Study:
        for comparison in (each for table in self.comparisons.values() for each in table):
            for cell in comparison.cells:
                choose(self.changes, cell, f"cell in the claim {comparison.claim!r}:")
        if self.derived and not self.measures:
            raise RegrowError(f"cells {', '.join(self.derived)} train nothing: give the study `measures`")
        for cell, derived in self.derived.items():
            choose(self.recipes, derived.of, f"cell that {cell!r} is derived of:")
            wanted = {source for seed in self.seeds for source in derived.sources(seed)}
            if lacking := sorted(seed for _, seed in wanted - set(self.pairs)):
                raise RegrowError(f"cell {cell!r} needs seeds {lacking} of {derived.of!r}: give it `seeds`")
        return self

    @cached_property
    def changes(self) -> dict[str, Changes]:
        """Cell -> how it was written down, primary cells first."""
        return self.cells.primary | self.cells.secondary

    @cached_property
    def derived(self) -> dict[str, Derived]:
        """The cells that train nothing."""
        return {cell: Derived.model_validate(own) for cell, own in self.changes.items() if "of" in own}

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Trained cell -> its whole recipe; `seeds` are those of the study unless it has its own."""
        base = {"seeds": self.seeds} | self.base
        return {
            cell: recipe_of(base | own | {"name": cell}, f"cell {cell!r}")
            for cell, own in self.changes.items()
            if "of" not in own
        }

    def recipe(self, cell: str) -> Recipe:
        """Of the cell, or of the one it is derived of."""
        return self.recipes[self.derived[cell].of if cell in self.derived else cell]

    def seeds_of(self, cell: str) -> tuple[int, ...]:
        return self.seeds if cell in self.derived else self.recipes[cell].seeds

    def fingerprint(self, cell: str) -> str:
        """Names what a result belongs to: the recipe, how it is derived, and what is measured."""
        name = self.recipe(cell).hash8
        parts = [part.model_dump(mode="json") for part in (self.derived.get(cell), self.measures) if part]
        return f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:4]}" if parts else name

    @property
    def pairs(self) -> list[Pair]:
        """Every line, in the order of importance: a comparison is whole as early as it can be."""
        return [(cell, seed) for cell in self.changes for seed in self.seeds_of(cell)]

    def sources(self, pair: Pair) -> list[Pair]:
        """The runs that a line is made of; none for a run."""
        derived = self.derived.get(pair[0])
        return derived.sources(pair[1]) if derived else []

    def expected(self, cell: str, results: Results) -> float | None:
        """Core-seconds of one line: the mean of finished ones, else by `costs`, else by the epochs of other cells."""
        cost = {pair: float(result["core_seconds"]) for pair, result in results.items()}
        if known := [seconds for (name, _), seconds in cost.items() if name == cell]:
            return fmean(known)
        if self.costs:
            return self.costs.line if cell in self.derived else self.costs.run(self.recipes[cell])
        each = [cost[pair] / self.recipes[pair[0]].total_epochs for pair in cost if pair[0] in self.recipes]
        return fmean(each) * self.recipe(cell).total_epochs if each else None


def home_of(name: str) -> Path:
    """The folder of a study, by its path or by its name among the benchmarks."""
    return Path(name) if Path(name).is_dir() else BENCHMARKS / name


def load(home: Path) -> Study:
    """The study in the folder `home`.

    Raises:
        RegrowError: no study there, or a key, cell or recipe that cannot be.
    """
    path = home / "study.yaml"
    if not path.exists():
        raise RegrowError(f"{path} does not exist: name a folder with a study.yaml, such as itop_fashion_mnist")
    try:
        return Study.model_validate(parse(path.read_text(encoding="utf-8"), str(path)))
    except ValidationError as error:
        raise RegrowError(f"{path}: {error}") from None


def finished(study: Study, home: Path) -> Results:
    """What results.jsonl holds. A torn last line is dropped; of two lines of one pair the first one counts.

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
        choose(study.changes, result["cell"], f"cell in {where}:")
        expected = study.fingerprint(result["cell"])
        if result["recipe"] != expected:
            raise RegrowError(
                f"{where}: cell {result['cell']!r} ran as recipe {result['recipe']}, but is {expected} in "
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
