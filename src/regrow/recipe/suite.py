"""A suite: many recipes from one file, as grids over dotted keys; each is checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError, model_validator

from regrow.core.errors import RegrowError
from regrow.recipe.check import check
from regrow.recipe.explain import explain
from regrow.recipe.load import find, parse, put, recipe_of
from regrow.recipe.schema import Recipe
from regrow.recipe.search import SearchSpec
from regrow.recipe.spec import Spec

Values = dict[str, Any]
Choices = Annotated[tuple[Any, ...], Strict(False), Field(min_length=1, description="a list of values")]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False), Field(min_length=1)]


@dataclass(frozen=True)
class Entry:
    """One run of a suite: its recipe, of one seed, and the values that tell it from the others."""

    recipe: Recipe
    values: Values

    @property
    def seed(self) -> int:
        return self.recipe.seeds[0]

    @property
    def folder(self) -> str:
        """Relative to the folder of all runs."""
        return f"{self.recipe.folder}/seed_{self.seed}"

    @property
    def cell(self) -> Values:
        """The values it shares with its other seeds."""
        return {key: value for key, value in self.values.items() if key != "seed"}


class Axes(Spec):
    """A base recipe and what differs from run to run: cases x zip x vary x seeds."""

    base: str | Values | None = Field(None, description="a recipe: a shipped name, a path, or its keys")
    set: Values = Field({}, description="dotted key -> value, in every run")
    cases: dict[str, Values] = Field({}, description="name -> {dotted key: value}")
    zip: dict[str, Choices] = Field({}, description="dotted key -> values; lists of one length that move together")
    vary: dict[str, Choices] = Field({}, description="dotted key -> values; every combination is run")
    seeds: Seeds | None = Field(None, description="a list such as [0, 1, 2]; the recipe's own when null")
    search: SearchSpec | None = Field(None, description="hyper-parameters to look for: {trials, over, objective}")

    @model_validator(mode="after")
    def _whole(self) -> Axes:
        if len({len(choices) for choices in self.zip.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(choices)}" for key, choices in self.zip.items())
            raise ValueError(f"has a `zip` of lists of several lengths ({lengths}): make them equal, or use `vary`")
        if self.search and (self.cases or self.zip or self.vary):
            raise ValueError("has a `search` beside cases, zip or vary: give it an analysis of its own")
        return self

    def cells(self) -> Iterator[tuple[Values, Values]]:
        """Per combination: how it is told, and the dotted keys it changes. Later words win: cases, zip, vary."""
        cases = [({"case": name}, changes) for name, changes in self.cases.items()] or [({}, {})]
        zipped = [dict(zip(self.zip, row, strict=True)) for row in zip(*self.zip.values(), strict=True)] or [{}]
        grid = [dict(zip(self.vary, row, strict=True)) for row in product(*self.vary.values())]
        for (told, changes), row, point in product(cases, zipped, grid):
            yield told | row | point, changes | row | point


class Analysis(Axes):
    about: str = Field("", description="one line for people")


class Suite(Axes):
    """Runs that belong together. Without `analyses` it is one analysis itself."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="lower-case letters, digits, '.', '_', '-'")
    about: str = Field("", description="one line for people")
    analyses: dict[str, Analysis] = Field({}, description="name -> {about, base, set, cases, zip, vary, seeds, search}")
    absent: dict[str, str] = Field({}, description="what belongs here and is not built -> why")

    @model_validator(mode="after")
    def _once(self) -> Suite:
        if self.analyses and (self.cases or self.zip or self.vary or self.search):
            raise ValueError("has `analyses`, and cases, zip, vary or search beside them: put those into an analysis")
        return self


@dataclass(frozen=True)
class Search:
    """The search of one analysis, at its base recipe."""

    spec: SearchSpec
    told: Values
    base: Values
    seeds: tuple[int, ...]
    where: str

    def entries(self, point: Values) -> list[Entry]:
        """The runs of one trial, one per seed."""
        return list(_entries(self.told | point, self.base, point, self.seeds, self.where))

    @property
    def name(self) -> str:
        return str(self.told.get("analysis", "search"))


@dataclass(frozen=True)
class Expanded:
    """A suite's file, and what it comes to."""

    suite: Suite
    source: Values
    entries: tuple[Entry, ...]
    searches: tuple[Search, ...]

    @cached_property
    def hash8(self) -> str:
        """Names the suite by its runs and searches, whose number of trials may be extended."""
        runs = [[entry.values, entry.folder] for entry in self.entries]
        looked = [[s.entries(s.spec.ends()[0])[0].folder, s.spec.model_dump(exclude={"trials"})] for s in self.searches]
        text = json.dumps([runs, looked], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        return f"{self.suite.name}-{self.hash8}"


def load(source: str | Path) -> Expanded:
    """The suite in a file, or the shipped one of that name (`itop/suite-central`), with every recipe of it checked.

    Raises:
        RegrowError: the first key, value, name or option that cannot be, with its path and the nearest valid one.
    """
    path = find(source, suites=True)
    values = parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise RegrowError(f"{path}: holds {type(values).__name__}, not the keys of a suite such as `name`, `vary`.")
    try:
        suite = Suite.model_validate(values)
    except ValidationError as error:
        raise RegrowError(explain(error, str(path), Suite)) from None
    entries: list[Entry] = []
    searches: list[Search] = []
    analyses: dict[str, Axes] = {**suite.analyses} or {"": suite}
    for name, axes in analyses.items():
        where, told = (f"{path}, analysis {name!r}", {"analysis": name}) if name else (str(path), {})
        base = _base(axes.base if axes.base is not None else suite.base, path, where)
        for key, value in (suite.set | axes.set).items():
            base = put(base, key, value, where)
        seeds = axes.seeds or suite.seeds or tuple(base.get("seeds", (0,)))
        if axes.search:
            searches.append(Search(axes.search, told, base, seeds, where))
            ends = [entry for point in axes.search.ends() for entry in searches[-1].entries(point)]
            if any(entry.recipe.data.validation == 0 for entry in ends):
                raise RegrowError(f"{where}: a search has no validation split to judge by: give `data.validation` 0.1")
        else:
            for words, changes in axes.cells():
                entries += _entries(told | words, base, changes, seeds, where)
    return Expanded(suite, values, tuple(entries), tuple(searches))


def _base(base: str | Values | None, path: Path, where: str) -> Values:
    """The plain values of the base recipe; a path may be relative to the suite's folder."""
    if base is None:
        raise RegrowError(f"{where}: `base` is missing: a recipe's shipped name, its path, or its keys.")
    if isinstance(base, dict):
        return {"name": path.stem, **base}
    beside = path.parent / base
    file = beside if beside.is_file() else find(base)
    values: Values = parse(file.read_text(encoding="utf-8"), str(file))
    recipe_of(values, f"{where}, base {base}")
    return values


def _entries(told: Values, base: Values, changes: Values, seeds: tuple[int, ...], where: str) -> Iterator[Entry]:
    words = ", ".join(f"{key}={json.dumps(value)}" for key, value in changes.items())
    where += f" with {words}" if words else ""
    values = base
    for key, value in changes.items():
        values = put(values, key, value, where)
    recipe = recipe_of(values, where)
    try:
        check(recipe)
    except RegrowError as error:
        raise RegrowError(f"{where}: {error}") from None
    for seed in seeds:
        yield Entry(recipe.model_copy(update={"seeds": (seed,)}), told | {"seed": seed})
