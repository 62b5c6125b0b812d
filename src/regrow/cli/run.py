"""regrow run: train a recipe, or go on, or return what is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.options import DataRoot, Log, Runs, seeds_of
from regrow.cli.parallel import train_together
from regrow.cli.tables import print_comparison
from regrow.cli.training import leading, train


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .yaml file, or a shipped one: demo/rigl-itop.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="0,1,2", help="Instead of the recipe's.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Runs at a time, on as many processes.")] = 1,
    log: Log = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Train a recipe, once per seed. Again, it goes on where it stopped, or returns what is finished."""
    from regrow.recipe.folders import wanted
    from regrow.recipe.load import load

    chosen = load(recipe, settings or ())
    plan = [wanted(chosen, seed, runs) for seed in seeds_of(seeds) or chosen.seeds]
    train_together(plan, data_root, jobs, log or ()) if jobs > 1 else train(plan, data_root, log or ())
    if leading():
        print_comparison([folder for _, folder in plan])
