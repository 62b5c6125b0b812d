"""The one exception of the house, and the words that show the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")


class RegrowError(ValueError):
    """A faulty setup, refused: the message names the place, the value and the way out."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or nothing."""
    close = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def choose(table: Mapping[str, Entry], name: str, what: str) -> Entry:
    """The entry of `table` called `name`. `what` says what it is, in the error.

    Raises:
        RegrowError: no such name; the message lists the valid ones.
    """
    if name not in table:
        raise RegrowError(f"unknown {what} {name!r}{nearest(name, table) or '.'} Valid: {', '.join(sorted(table))}.")
    return table[name]
