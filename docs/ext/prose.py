"""Our docstrings are prose with `code`, |w| and theta*: reStructuredText is told to read them so."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`]+`)")
MARKS = re.compile(r"(?<!\\)([*|\\]|(?<=\w)_(?!\w))")
SECTION = re.compile(r"\s*(Args|Returns|Raises|Yields|Attributes):$")


VALUES = ("property", "attribute", "data")
"""Of these napoleon would take what stands before a colon for the type."""


def as_prose(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Single backticks are code, marks of emphasis and substitution stand for themselves; indented text is kept."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else _line(line) for line in lines]
    if what in VALUES:
        _kept[name] = lines[:]


def past_napoleon(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """What it has made of a value's docstring is undone."""
    lines[:] = _kept.pop(name, lines)


_kept: dict[str, list[str]] = {}


def _line(line: str) -> str:
    parts = CODE.split(line)
    return "".join(f"`{part}`" if i % 2 else MARKS.sub(r"\\\1", part) for i, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", as_prose, priority=100)  # before napoleon reads the sections
    app.connect("autodoc-process-docstring", past_napoleon, priority=900)
    return {"parallel_read_safe": True}
