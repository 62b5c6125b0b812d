"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.core.errors import RegrowError

Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders are.")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", metavar="DIR", help="Where data sets are; else $REGROW_DATA."),
]
Log = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="TRACKER", help="tensorboard, wandb, mlflow or trackio, besides JSONL. Repeatable."),
]


def seeds_of(text: str | None) -> tuple[int, ...] | None:
    """`0,1,2` as numbers; None when nothing was given."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise RegrowError(f"--seeds {text}: should be whole numbers with commas between, such as --seeds 0,1,2.")
    return tuple(int(part) for part in parts)


def numbers_of(flag: str, text: str, low: float, below: float = float("inf")) -> tuple[float, ...]:
    """`0.9,0.95` as numbers in [low, below)."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(low <= number < below for number in numbers):
        bounds = f"of at least {low:g}" if below == float("inf") else f"in [{low:g}, {below:g})"
        raise RegrowError(f"{flag} {text}: should be numbers {bounds} with commas between.")
    return numbers
