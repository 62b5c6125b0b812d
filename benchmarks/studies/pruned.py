"""Which layers keep their weights under one threshold: what pruned runs have ended with, for `regrow plan`'s FLOPs.

Our own runs are those of the suite baselines/suite-pruning-small, as the ledger in results/ has them. Of ResNet-50 on
ImageNet there is what others report, and is marked as theirs: sparsities layer by layer, and two ratios.

python -m benchmarks.studies.pruned
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path

from regrow.lab import ledger
from regrow.lab.plan import pruned
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.pruned import Pruned, left
from regrow.metrics.flops import forward_flops
from regrow.recipe.load import load
from regrow.recipe.suite import load as load_suite

ROOT = Path(__file__).parents[2]
SUITE, NETWORKS = "baselines/suite-pruning-small", {"cnn": "CNN of 6 convolutions", "wrn": "WRN-10-1"}
IMAGENET = "baselines/imagenet-resnet50-granet"
BUDGETS = "layer by layer in Kusupati et al. 2020 (arXiv:2002.03231), not measured here"
GRANET = "reported by Liu et al. 2021 (arXiv:2106.10404), not measured here"
REPORTED = [(0.2, 0.35), (0.1, 0.20)]
"""GraNet: density, inference FLOPs of the dense ones'."""


def ratio_of(draft: Draft, densities: Mapping[str, float]) -> float:
    """Inference FLOPs as a share of the dense ones."""
    return forward_flops(draft.dense_flops, densities) / forward_flops(draft.dense_flops, {})


def exponent_of(draft: Draft, density: float, ratio: float) -> float:
    """That with which a run of this draft ends with this share of the inference FLOPs, by bisection."""
    low, high = -1.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        found = ratio_of(draft, left(draft.net.shapes, draft.first, density, middle))
        low, high = (middle, high) if found < ratio else (low, middle)
    return round(low, 3)


def ours() -> Iterator[Pruned]:
    """The cells of the suite, a seed each."""
    file = sorted((ROOT / "results").glob("*-pruning-small-*.json"))[-1]
    (content,) = (found for found in ledger.read(file.parent) if found["suite"] == "pruning-small" == found["suite"])
    entries = {json.dumps(entry.cell): entry.recipe for entry in load_suite(SUITE).entries}
    for row in content["results"]:
        recipe = entries[json.dumps(row["values"])]
        draft, ratio = Draft.of(recipe), row["inference_flops_ratio"]
        assert recipe.method is not None
        assert recipe.density is not None
        yield Pruned(
            network=NETWORKS[recipe.model.name],
            data=recipe.data.name,
            method=recipe.method.name,
            density=recipe.density,
            updates=len(draft.moves),
            seeds=len(row["seeds"]),
            inference_ratio=round(ratio, 4),
            exponent=exponent_of(draft, recipe.density, ratio),
            source=f"results/{file.name}",
        )


def theirs() -> Iterator[Pruned]:
    """ResNet-50 on ImageNet: from its layers, and from the two ratios of GraNet's table."""
    text = (Path(__file__).parent / "global_sparsity_resnet50.txt").read_text(encoding="utf-8")
    sparsities = [float(line) for line in text.splitlines() if not line.startswith("#")]
    draft = Draft.of(load(IMAGENET, ["method=gmp"]))
    found = {name: 1 - percent / 100 for name, percent in zip(draft.net.shapes, sparsities, strict=True)}
    density = sum(found[name] * prod(shape) for name, shape in draft.net.shapes.items()) / draft.net.numel
    yield _reported("gmp", draft, density, ratio_of(draft, found), BUDGETS)
    draft = Draft.of(load(IMAGENET))
    for density, ratio in REPORTED:
        yield _reported("granet", draft, density, ratio, GRANET)


def _reported(method: str, draft: Draft, density: float, ratio: float, source: str) -> Pruned:
    exponent = exponent_of(draft, density, ratio)
    return Pruned("ResNet-50", "imagenet", method, round(density, 4), 0, 0, round(ratio, 4), exponent, source)


if __name__ == "__main__":
    content = {"about": __doc__.split("\n")[0], "runs": [asdict(run) for run in [*ours(), *theirs()]]}
    path = Path(pruned.__file__).with_name("pruned.json")
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
