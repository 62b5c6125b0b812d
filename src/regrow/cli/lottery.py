"""regrow lottery: draw tickets by iterative magnitude pruning."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from regrow.cli.options import DataRoot, Runs, numbers_of, seeds_of
from regrow.cli.progress import watched
from regrow.cli.tables import print_table

if TYPE_CHECKING:
    from regrow.train.loop import Progress


def lottery(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="How a round is trained: dense, or static.")],
    densities: Annotated[str, typer.Option("--densities", metavar="0.5,0.2,0.1", help="What each round leaves.")],
    rewind: Annotated[
        Literal["weights", "learning-rate", "initial"],
        typer.Option("--rewind", help="What the next round starts with."),
    ] = "weights",
    epoch: Annotated[int, typer.Option("--epoch", help="The epoch that is rewound to.")] = 1,
    layers: Annotated[
        Literal["global", "each"], typer.Option("--layers", help="All layers compete, or each is pruned alike.")
    ] = "global",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="0,1,2", help="Instead of the recipe's.")] = None,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Train, prune, rewind, and again. The tickets start runs: regrow run ... --set topology=TICKET."""
    from regrow.lab.lottery import Lottery, draw
    from regrow.lab.tickets import listing
    from regrow.recipe.load import load

    chosen = load(recipe, settings or ())
    drawn = Lottery(numbers_of("--densities", densities, 0.0, 1.0), rewind, epoch, layers)
    for seed in seeds_of(seeds) or chosen.seeds:
        with ExitStack() as stack:
            files = draw(drawn, chosen, seed, runs, data_root, _watch(f"{chosen.name} seed {seed}", stack))
        rows = [
            {"ticket": ticket.file, "weights": f"{ticket.weights:,}", "sparsity %": f"{100 * (1 - ticket.density):.2f}"}
            for ticket in listing(files)
        ]
        print_table(rows, left=["ticket"])


def _watch(title: str, stack: ExitStack) -> Callable[[str, Progress], None]:
    """One bar for each stage, until the next begins."""
    bars: dict[str, Callable[[Progress], None]] = {}

    def tell(stage: str, progress: Progress) -> None:
        if stage not in bars:
            stack.close()
            bars[stage] = stack.enter_context(watched(f"{title} {stage}", Console(stderr=True)))
        bars[stage](progress)

    return tell
