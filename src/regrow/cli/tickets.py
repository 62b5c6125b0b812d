"""regrow tickets: the tickets of runs, side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.tables import Rows, print_table

if TYPE_CHECKING:
    from regrow.lab.tickets import Listed


def tickets(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN|FILE...", help="Folders of runs, or files of tickets.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers for programs.")] = False,
) -> None:
    """Sizes of tickets, the connections they share (intersection over union) and the distances of their weights."""
    from regrow.lab.tickets import listing

    found = listing(paths)
    if as_json:
        typer.echo(json.dumps([asdict(ticket) for ticket in found], indent=2))
        return
    print_table([_row(number, ticket) for number, ticket in enumerate(found)], left=["ticket"])
    if len(found) > 1:
        print_table(_matrix("overlap", [ticket.overlap for ticket in found]))
        print_table(_matrix("distance", [ticket.distance for ticket in found]))


def _row(number: int, ticket: Listed) -> dict[str, str]:
    known = {key: ticket.meta.get(key, "") for key in ("step", "val_accuracy")}
    return {
        "ticket": f"{number}: {ticket.file}",
        "weights": f"{ticket.weights:,}",
        "sparsity %": f"{100 * (1 - ticket.density):.2f}",
        "kB": f"{ticket.bytes / 1e3:,.1f}",
        **known,
    }


def _matrix(title: str, values: list[list[float]]) -> Rows:
    return [{title: str(i), **{str(j): f"{value:.4g}" for j, value in enumerate(row)}} for i, row in enumerate(values)]
