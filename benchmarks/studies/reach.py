"""How far growth by gradient reaches: from the R_s that runs have ended with, for the forecasts of `regrow plan`.

Our own runs are those of the committed studies; of convolutional networks there are the numbers that ITOP's authors
report (ResNet-50 on ImageNet, the table of their repository), which are marked as theirs.

python -m benchmarks.studies.reach
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from benchmarks.studies.study import finished, home_of, load

from regrow.lab.plan import foreseen
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.foreseen import Measured
from regrow.lab.plan.sizes import word_of
from regrow.metrics.exploration import explored, total
from regrow.recipe.load import load as load_recipe
from regrow.recipe.schema import Recipe

STUDIES = {"itop_fashion_mnist": "MLP 784-1024-1024-10", "tickets_fashion_mnist": "MLP 784-1024-1024-10"}
THEIRS = "reported by Liu et al. 2021 (arXiv:2102.02887), not measured here"
REPORTED = [(0.8, 1, 0.93), (0.9, 1, 0.83), (0.8, 2, 0.97), (0.9, 2, 0.89)]
"""RigL-ITOP: sparsity, how many times 100 epochs, R_s."""


def reach_of(draft: Draft, rate: float) -> float:
    """That with which a run of this draft ends at R_s = `rate`, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        rates = explored(draft.first, [move.fraction for move in draft.moves], middle)
        low, high = (middle, high) if float(total(draft.net.shapes, rates[-1])) < rate else (low, middle)
    return round(low, 2)


def row(recipe: Recipe, rates: list[float], network: str, source: str) -> Measured:
    """What runs of one recipe have ended with, one a seed."""
    draft = Draft.of(recipe)
    reaches = [reach_of(draft, rate) for rate in rates]
    assert recipe.method is not None
    return Measured(
        network=network,
        convolutional=any(len(shape) > 2 for shape in draft.net.shapes.values()),
        data=word_of(recipe.data.name),
        method=recipe.method.name,
        density=recipe.density or 1.0,
        updates=len(draft.moves),
        turnover=round(sum(move.fraction for move in draft.moves), 2),
        seeds=len(rates),
        exploration_rate=round(fmean(rates), 4),
        reach=(min(reaches), max(reaches)),
        source=source,
    )


def ours() -> Iterator[Measured]:
    """The cells of DropGrow by gradient that have finished runs."""
    for name, network in STUDIES.items():
        study, results = load(home_of(name)), finished(load(home_of(name)), home_of(name))
        for cell, recipe in study.recipes.items():
            rates = [result["exploration_rate"] for (of, _), result in sorted(results.items()) if of == cell]
            if rates and recipe.method and recipe.method.name in ("rigl", "rigl-itop"):
                yield row(recipe, rates, network, f"benchmarks/{name}/results.jsonl, {cell}")


def theirs() -> Iterator[Measured]:
    for sparsity, multiplier, rate in REPORTED:
        settings = [f"sparsity={sparsity}", f"multiplier={multiplier}", "data.validation=0"]
        yield replace(row(load_recipe("itop/imagenet-resnet50-rigl", settings), [rate], "ResNet-50", THEIRS), seeds=0)


if __name__ == "__main__":
    content = {"about": __doc__.split("\n")[0], "runs": [asdict(run) for run in [*ours(), *theirs()]]}
    path = Path(foreseen.__file__).with_name("measured.json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
