"""Tickets in folders of runs and in files: what each is, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow.core.errors import RegrowError
from regrow.recipe.folders import runs_in
from regrow.tickets import Ticket
from regrow.tickets.compare import distances, overlaps


@dataclass(frozen=True)
class Listed:
    """One ticket: where it is, its size, what is known of it, and how alike it is to the others, itself among them."""

    file: str
    weights: int
    density: float
    bytes: int
    meta: dict[str, str]
    overlap: list[float]
    distance: list[float]


def listing(paths: Sequence[Path]) -> list[Listed]:
    """The tickets of runs (folders) and files.

    Raises:
        RegrowError: a path without tickets, a damaged file, or tickets of different sites.
    """
    files = [file for path in paths for file in _files(path)]
    tickets = [Ticket.load(file) for file in files]
    overlap, distance = overlaps(tickets).tolist(), distances(tickets).tolist()
    return [
        Listed(str(file), t.topology.nnz, t.topology.density, file.stat().st_size, t.meta, overlap[i], distance[i])
        for i, (file, t) in enumerate(zip(files, tickets, strict=True))
    ]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for run in runs_in(path) for file in run.tickets()]
    if not found:
        raise RegrowError(f"{path} holds runs but no tickets: a run takes them if its recipe's plan says so")
    return found
