"""regrow demo: the main job on data that comes with regrow, in a minute."""

from __future__ import annotations

from pathlib import Path

import typer

from regrow.cli.options import Runs
from regrow.cli.report import write
from regrow.cli.tables import print_comparison
from regrow.cli.training import train

SPARSE = ("static", "set-itop", "rigl-itop")
DENSITIES = (0.1, 0.05)
TICKETS = ("freetickets", "sup-tickets")


def demo(runs: Runs = Path("runs")) -> None:
    """Train an MLP on the embedded digits dense, sparse at 90 and 95 % with three methods, and for tickets; compare."""
    from regrow.recipe.folders import wanted
    from regrow.recipe.load import load

    recipes = [load("demo/dense")]
    recipes += [load(f"demo/{method}", [f"density={density}"]) for density in DENSITIES for method in SPARSE]
    recipes += [load(f"demo/{name}") for name in ("tost", *TICKETS)]
    chosen = [wanted(recipe, recipe.seeds[0], runs) for recipe in recipes]
    train(chosen, None)
    print_comparison([folder for _, folder in chosen])
    page = runs / "report.html"
    write([folder.path for _, folder in chosen], runs, page)
    typer.echo(ABOUT.format(runs=runs, last=chosen[-1][1].path, page=page))


ABOUT = """\
R_s is the share of weights that were ever active: static stays at its density, the ITOP methods explore.
ToST is static again, trained with four helpers that are gone at the end; its smoothed labels cost it NLL and ECE.
FreeTickets took three tickets from one run, whose probabilities are averaged (together); Sup-tickets averaged the
weights of three into one network as sparse as they are. NLL is in nats, ECE the gap of confidence and accuracy.
This shows the machinery and claims nothing: with 360 test images one image is .3 %, and each row is one seed.
The sparse rows ran truly sparse: only the weights that exist were stored, multiplied and updated. ms/step is the median
step as it came here, on one thread; MB are weights, optimizer state, indices and what R_s is counted from, without
activations; in brackets, against the dense run. One run after another is no benchmark: `regrow bench` times a model
turn by turn. Smaller networks and batches gain less.

The runs are in {runs}/. Next:
  regrow show {last}
  regrow show methods
  regrow bench                                        # dense, bf16, masked and sparse training steps side by side
  regrow run demo/rigl-itop --set density=0.02 --seeds 0,1,2,3,4
  regrow run itop/fashion-mnist-mlp-rigl-small        # minutes; needs Fashion-MNIST (downloaded, or --data-root)
  regrow compare {runs}

All of it on one page, to open in a browser: {page}"""
