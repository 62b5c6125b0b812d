"""regrow show: a run, the methods, or a recipe as it resolves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.tables import print_table

if TYPE_CHECKING:
    from regrow.train.paths import RunFolder


def show(
    what: Annotated[
        str, typer.Argument(metavar="RUN|METHODS|RECIPE", help="A folder of runs, `methods`, or a recipe.")
    ],
) -> None:
    """How a run stands, what methods there are, or a recipe with every default filled in."""
    if what.lower() == "methods":
        from regrow.recipe.catalogue import methods_table

        print_table(methods_table(), left=["method", "does", "defaults"])
    elif Path(what).is_dir():
        from regrow.recipe.folders import runs_in

        for folder in runs_in(Path(what)):
            _show_run(folder)
    else:
        _show_recipe(what)


def _show_recipe(source: str) -> None:
    from regrow.recipe.build import method_of
    from regrow.recipe.load import dump, load

    recipe = load(source)
    if recipe.method:
        method_of(recipe.method)
    typer.echo(f"# runs/{recipe.folder}/seed_<k>\n{dump(recipe)}", nl=False)


def _show_run(folder: RunFolder) -> None:
    from regrow.recipe.build import method_of
    from regrow.recipe.folders import layers
    from regrow.recipe.load import load
    from regrow.train.record import read_json, rows

    recipe = load(folder.recipe)
    metrics = rows(folder)
    typer.echo(f"{folder.path}: {recipe.about or recipe.name}")
    if folder.finished:
        result = read_json(folder.result)
        typer.echo(f"finished after {result['steps']} steps, test accuracy {100 * result['test_accuracy']:.2f} %")
        if "tickets" in result:
            print_table(tickets(result), left=["ticket"])
        if "refused" in result:
            typer.echo(result["refused"])
    elif metrics:
        done = metrics[-1]
        typer.echo(f"epoch {done['epoch']} of {recipe.total_epochs}; go on with: regrow resume {folder.path}")
    else:
        typer.echo(f"no epoch is finished; go on with: regrow resume {folder.path}")
    if metrics:
        told = {key: value for key, value in metrics[-1].items() if value is not None and not isinstance(value, dict)}
        typer.echo(", ".join(f"{key} {_short(value)}" for key, value in told.items()))
    if recipe.method and folder.checkpoint.exists():
        print_table(layers(folder, method_of(recipe.method)), left=["layer"])


def tickets(result: dict[str, Any]) -> list[dict[str, str]]:
    """The run's tickets by column title, what they are together, and their average."""
    of = {f"{row['file']} ({result['selection']}, epoch {row['epoch']})": row for row in result["tickets"]}
    of |= {f"{result['ensemble']['members']} together": result["ensemble"]}
    if result.get("superposed"):
        of |= {f"averaged ({result['superposed']['by']})": result["superposed"]}
    return [
        {
            "ticket": name,
            "test %": f"{100 * row['test_accuracy']:.2f}",
            "NLL": f"{row['test_nll']:.4f}",
            "ECE": f"{row['test_ece']:.4f}",
            "weights": f"{row['nnz']:,}" if row.get("nnz") else "-",
        }
        for name, row in of.items()
    ]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
