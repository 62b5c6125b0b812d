"""What papers report: a small file of tables, each with its source and how it was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.core.errors import RegrowError, choose, nearest
from regrow.lab.ledger import LEDGER
from regrow.recipe.load import parse

REPORTED = LEDGER / "reported.yaml"

READ = {
    "paper": "read in the paper",
    "readme": "read in the README of the authors' code",
    "second-hand": "as restated there",
}
"""How a table was read. There is no word for numbers remembered: they are not quoted."""


@dataclass(frozen=True)
class Reported:
    """One table of a paper; its cells stay the words they are printed in.

    Args:
        data: the data set's name in recipes, or another word; `model` likewise.
        rows: method -> a cell per column, empty where the paper has none.
    """

    paper: str
    source: str
    read: str
    data: str
    model: str
    columns: list[str]
    rows: dict[str, list[str]]


def read(path: Path = REPORTED) -> list[Reported]:
    """The tables of the file, none if there is no such file.

    Raises:
        RegrowError: a table without a source, read in no known way, or with a row of another length.
    """
    if not path.exists():
        return []
    tables = parse(path.read_text(encoding="utf-8"), str(path))
    return [_table(table, f"{path}, table {number}") for number, table in enumerate(tables, 1)]


def _table(values: dict[str, Any], where: str) -> Reported:
    fields = list(Reported.__dataclass_fields__)
    for key in values:
        if key not in fields:
            raise RegrowError(f"{where}: unknown key `{key}`{nearest(key, fields) or '.'} Valid: {', '.join(fields)}.")
    if missing := [key for key in fields if not values.get(key)]:
        raise RegrowError(f"{where}: `{missing[0]}` is missing: a number is quoted with its source, or not at all.")
    choose(READ, values["read"], f"`read` in {where}:")
    for method, cells in values["rows"].items():
        if len(cells) != len(values["columns"]) or not all(isinstance(cell, str) for cell in cells):
            raise RegrowError(
                f"{where}: {method!r} is {cells}, but should be {len(values['columns'])} texts, as they are printed."
            )
    return Reported(**values)
