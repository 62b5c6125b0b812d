"""Plans of runs that one threshold prunes: FLOPs as a range, and the measured runs it rests on."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from regrow.lab.plan import pruned
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.outlook import outlook
from regrow.lab.plan.propose import Goals, propose
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.train.loop import fit
from regrow.train.paths import RunFolder

ROOT = Path(__file__).parents[2]
IMAGENET = "baselines/imagenet-resnet50-granet"
PUBLISHED = [(0.8, 0.37, 0.35), (0.9, 0.25, 0.20)]
"""Of GraNet (arXiv:2106.10404): sparsity, FLOPs of training and inference."""


def drafted(recipe: str, *settings: str) -> Draft:
    return Draft.of(load(recipe, settings))


def within(low: float, value: float, high: float, margin: float = 0.0) -> bool:
    return low - margin <= value <= high + margin


def test_what_a_threshold_leaves_by_hand() -> None:
    """a = 0: every layer the same share of what it had. a = 1/2, fan-ins of 4 and 16: e^-2t and e^-4t."""
    shapes, first = {"few": (100, 4), "many": (100, 16)}, {"few": 1.0, "many": 0.5}
    alike = pruned.left(shapes, first, 0.3, 0.0)
    assert alike == {"few": 0.5, "many": 0.25}
    he = pruned.left(shapes, first, 0.3, 0.5)
    assert math.log(he["many"] / 0.5) / math.log(he["few"]) == pytest.approx(2, abs=0.02)
    assert 400 * he["few"] + 1600 * he["many"] == pytest.approx(600)
    assert pruned.left(shapes, first, 0.6, 0.5) == first, "nothing to prune"
    assert all(density > 0 for density in pruned.left(shapes, first, 0.01, 2.0).values()), "no layer is emptied"


@pytest.mark.parametrize(("sparsity", "training", "inference"), PUBLISHED)
def test_the_published_ratios_of_granet(
    sparsity: float, training: float, inference: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in the range; also in the one that rests on all other runs, of which none is theirs."""
    others = tuple(run for run in pruned.measured() if not (run.data == "imagenet" and run.method == "granet"))
    for runs in (pruned.measured(), others):
        monkeypatch.setattr(pruned, "alike", lambda data, runs=runs: runs)
        low, high = (end.flops() for end in drafted(IMAGENET, f"sparsity={sparsity}").ends)
        assert within(low["training_ratio"], training, high["training_ratio"], 0.01)
        assert within(low["inference_ratio"], inference, high["inference_ratio"], 0.01)


@pytest.mark.parametrize(("sparsity", "training", "inference"), PUBLISHED)
def test_its_training_follows_from_its_inference(sparsity: float, training: float, inference: float) -> None:
    """The exponent that gives one of their two numbers gives the other, to .01."""
    (run,) = (r for r in pruned.measured() if r.data == "imagenet" and r.inference_ratio == inference)
    draft = drafted(IMAGENET, f"sparsity={sparsity}")
    flops = Draft(draft.recipe, draft.sizes, draft.net, draft.method, run.exponent).flops()
    assert flops["inference_ratio"] == pytest.approx(inference, abs=0.001)
    assert flops["training_ratio"] == pytest.approx(training, abs=0.01)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    yield importlib.import_module("benchmarks.studies.pruned")
    for name in [name for name in sys.modules if name.startswith("benchmarks")]:
        monkeypatch.delitem(sys.modules, name)


def test_measured_runs_are_where_they_say(script: Any) -> None:
    """The committed numbers follow from the ledger of the suite, and from what others report."""
    assert [*script.ours(), *script.theirs()] == list(pruned.measured())
    assert {run.network for run in pruned.measured()} == {*script.NETWORKS.values(), "ResNet-50"}


@pytest.mark.parametrize("method", ["granet", "gmp"])
def test_against_a_finished_run(method: str, tmp_path: Path) -> None:
    """A network that no number rests on."""
    settings = [f"method={{name: {method}, every: {{interval: 5}}}}", "density=0.2", "data=digits", "epochs=4"]
    recipe = load("smoke/convolutions", settings)
    found, result = outlook(Draft.of(recipe), calibrated=False), fit(job_of(recipe, 0), RunFolder(tmp_path))
    assert "decided in training" in found.unsure
    assert found.rests_on
    for key in ("training_ratio", "inference_ratio"):
        assert found.flops_low[key] < found.flops_high[key]
        assert within(found.flops_low[key], result["flops"][key], found.flops_high[key], 0.02)
        assert within(found.flops_low[key], found.flops[key], found.flops_high[key])


def test_where_every_weight_is_multiplied_once_the_flops_are_known(tmp_path: Path) -> None:
    settings = ["method={name: granet, every: {interval: 20}}", "epochs=3", "model.hidden=[128, 64]", "density=0.1"]
    recipe = load("demo/static", [*settings, "backend=masked"])
    found, result = outlook(Draft.of(recipe), calibrated=False), fit(job_of(recipe, 0), RunFolder(tmp_path))
    assert found.flops == found.flops_low == found.flops_high == pytest.approx(result["flops"])
    assert not found.unsure
    assert not found.rests_on
    assert "decided in training" in found.draft.unsure, "of single layers"


def test_a_budget_holds_at_the_high_end() -> None:
    found = outlook(drafted(IMAGENET), calibrated=False)
    (length,) = (p for p in propose(found, Goals(budget=0.2)) if p.knob == "length")
    low, high = (end.flops()["training_ratio"] for end in drafted(IMAGENET, *length.settings).ends)
    assert 0.19 < high <= 0.2
    assert low < high
