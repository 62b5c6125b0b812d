"""The one reader of run folders, for tables and pages: what a folder holds, or why it cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from regrow.train.paths import RunFolder, SuiteFolder
from regrow.train.record import Record, read_json, rows

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where libyaml is
Facts = Mapping[str, Any]  # dotted key -> value
NUMBERS = ("density", "nnz", "numel", "parameters", "batch_size", "bytes")
NEEDED = (*NUMBERS, "test_accuracy", "data", "flops")
"""Without these a result is none; the accuracy of a run that has diverged may be no number."""


@dataclass(frozen=True)
class Run:
    """One run as it stands.

    Args:
        recipe: resolved, and `text`, as it is written.
        result: None while it is not finished.
        rows: its metrics, an epoch each.
        judged: predictors, diversity and paths: of `regrow evaluate`, else of the run's own end.
        values: what a suite varied, by dotted key.
    """

    folder: RunFolder
    recipe: Record
    text: str
    environment: Record
    result: Record | None
    rows: list[Record]
    judged: Record
    values: Facts = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`<recipe>-<hash8>`."""
        return self.folder.path.resolve().parent.name

    @property
    def seed(self) -> int:
        return int(self.recipe["seeds"][0])


@dataclass(frozen=True)
class Skipped:
    """A folder that cannot be read, and why, in a sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """What there is to show, what had to be left out, and what has not begun."""

    runs: list[Run]
    skipped: list[Skipped]
    waiting: list[Path]


def gather(folders: Iterable[RunFolder], values: Mapping[Path, Facts] | None = None) -> Found:
    """Read every folder; a damaged one is left out by name, and the others are not.

    Args:
        values: of a suite, by the folder's path.
    """
    found = Found([], [], [])
    for folder in folders:
        if not folder.recipe.exists():
            found.waiting.append(folder.path)
            continue
        try:
            found.runs.append(_read(folder, (values or {}).get(folder.path, {})))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, yaml.YAMLError) as error:
            reason = error.args[0] if isinstance(error, ValueError) and error.args else repr(error)
            found.skipped.append(Skipped(folder.path, " ".join(str(reason).split())))
    return found


def by_recipe(runs: Iterable[Run]) -> list[tuple[Run, ...]]:
    """The runs of each recipe together, recipes in the order of their first runs."""
    groups: dict[Path, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.folder.path.resolve().parent, []).append(run)
    return [tuple(group) for group in groups.values()]


def _read(folder: RunFolder, values: Facts) -> Run:
    text = folder.recipe.read_text(encoding="utf-8")
    recipe = yaml.load(text, Loader=LOADER)
    if not isinstance(recipe, dict) or not recipe.get("seeds") or not isinstance(recipe.get("name"), str):
        raise ValueError(f"{folder.recipe.name} is no recipe")
    result = _json(folder.result)
    if lacks := [key for key in NEEDED if result and key not in result]:
        raise ValueError(f"{folder.result.name} lacks {', '.join(lacks)}")
    if result and (none := [key for key in NUMBERS if not isinstance(result[key], int | float)]):
        raise ValueError(f"{folder.result.name} has no number for {', '.join(none)}")
    return Run(
        folder,
        recipe,
        text,
        _json(folder.environment),
        result or None,
        [_row(finite(row)) for row in rows(folder)],
        _usable(_merged(_json(folder.judged), _json(folder.evaluation))),
        values,
    )


def _json(path: Path) -> Record:
    record = finite(read_json(path)) if path.exists() else {}
    if not isinstance(record, dict):
        raise ValueError(f"{path.name} holds no record")
    return record


def finite(value: Any) -> Any:
    """The value with None for every number that is not one: a table has a dash there."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list) else value


def _row(row: Record) -> Record:
    """Without tables that lack a number: half of one shows nothing right."""
    if row["epoch"] is None or row["step"] is None:
        raise ValueError("metrics.jsonl has a row without epoch or step")
    return {key: value for key, value in row.items() if not (isinstance(value, dict) and _lacks(value))}


def _lacks(value: Any) -> bool:
    """Whether a number is missing somewhere inside."""
    if isinstance(value, dict):
        return any(map(_lacks, value.values()))
    return any(map(_lacks, value)) if isinstance(value, list) else value is None


def _usable(judged: Record) -> Record:
    """Without bins and matrices that lack a number."""
    systems = {
        name: {**system, "reliability": [row for row in system.get("reliability", ()) if not _lacks(row)]}
        for name, system in judged.get("systems", {}).items()
    }
    apart = {key: value for key, value in (judged.get("diversity") or {}).items() if not _lacks(value)}
    return {**judged, "systems": systems, "diversity": apart}


def _merged(own: Record, evaluated: Record) -> Record:
    """What was evaluated, over what the run had found itself."""
    both = own.keys() & evaluated.keys()
    deep = {k: {**own[k], **evaluated[k]} for k in both if isinstance(own[k], dict) and isinstance(evaluated[k], dict)}
    return {**own, **evaluated, **deep}


def suite(path: Path) -> Mapping[Path, Facts] | None:
    """The runs of the suite that `path` is the folder of, and what it varied in each; None if it is none.

    Raises:
        RegrowError: its `suite.json` cannot be read.
    """
    file = SuiteFolder(path).suite
    if not file.exists():
        return None
    root = Path(os.path.relpath(path.resolve().parent.parent))
    folders: dict[Path, Facts] = {}
    for entry in read_json(file)["runs"]:
        values = {key: value for key, value in entry["values"].items() if key != "seed"}
        folders[root / entry["folder"]] = {**values, **folders.get(root / entry["folder"], {})}
    return folders


def as_text(value: Any) -> str:
    """A value of a recipe as a key: equal for equal values."""
    return json.dumps(value, sort_keys=True, default=str)
