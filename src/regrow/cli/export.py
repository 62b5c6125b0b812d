"""regrow export: a trained network for others, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import DataRoot
from regrow.cli.tables import print_table


def export(
    path: Annotated[Path, typer.Argument(metavar="RUN|TICKET", help="A run's folder, or a ticket in it.")],
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="KIND", help="state_dict, safetensors, ticket, onnx, torch.export. Repeatable."),
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="Batch normalisation folded into the layers before: for inference alone.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Instead of RUN/export.")] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a run's network, or one of its tickets, as safetensors or in other formats, with a model card."""
    from regrow.core import files
    from regrow.lab.card import CARD, card
    from regrow.lab.export import export as write
    from regrow.lab.trained import Trained

    trained = Trained.of(path, data_root)
    folder = out or trained.folder.exported
    exported = write(trained, to or ["safetensors"], folder, fold)
    files.write(folder / CARD, card(trained, exported, fold).encode())
    rows = [{"format": kind, "file": str(file), "bytes": f"{file.stat().st_size:,}"} for kind, file in exported.items()]
    print_table([*rows, {"format": "model card", "file": str(folder / CARD), "bytes": ""}], left=["format", "file"])
