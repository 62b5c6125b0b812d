"""Every shipped suite is valid, and between its analyses and what it calls absent holds all that a paper has."""

from __future__ import annotations

import re

import pytest
import torch

from regrow.execution.parts import survey
from regrow.lab.lottery import Lottery, _hash8
from regrow.recipe.load import find, load, shipped_names
from regrow.recipe.suite import load as load_suite
from regrow.train import models

ANALYSES = {
    "itop": """accuracy-against-exploration, update-interval, batch-size, extended-training,
        extended-training-with-longer-intervals, drop-fraction, comparison, itop-on-other-masks, growth, sparsity,
        flops""",
    "freetickets": """ensemble-size-and-sparsity, escape, exploration-time, refinement-time, diversity,
        t-SNE trajectories, out-of-distribution, adversarial, corruptions, calibration, comparison,
        distillation of the ensemble, flops""",
    "sup_tickets": """averaging, cycle-length, tickets-in-equal-time, tickets-without-time-limit, exploration-rate,
        large-learning-rate, ticket-variance, learning-rates, diversity, calibration, ensemble-against-average,
        knowledge distillation, kolmogorov-smirnov, batch-norm, layer-wise-sparsity, interpolation, flops""",
    "tost": """activations, ghost-skip, label-smoothing, rescaled-init, stack, sparsity, masks, dead-neurons,
        kernel histograms, distances between masks, pruning analysis, hessian, loss-landscape,
        with-label-smoothing-only, convergence, flops""",
}

BASELINES = {
    "itop": "static, small-dense, dense, lottery, snip, gmp",
    "freetickets": "static, lottery, prune-finetune, treenet, mimo, batch-ensemble, mc-dropout, dense, edst, dst",
}
SAME = {"treenet": "TreeNet", "mimo": "MIMO", "batch-ensemble": "BatchEnsemble", "lottery": "lottery ticket rewinding"}


@pytest.mark.parametrize("name", shipped_names(suites=True))
def test_it_is_valid(name: str) -> None:
    found = load_suite(name)
    assert found.entries
    assert found.suite.about
    assert len({(entry.folder, str(entry.values)) for entry in found.entries}) == len(found.entries)


@pytest.mark.parametrize("name", shipped_names(suites=True))
def test_its_patterns_match_weights_of_its_models(name: str) -> None:
    recipes = [entry.recipe for entry in load_suite(name).entries]
    found = {str((r.model, r.include, r.exclude)): r for r in recipes if r.method and (r.include or r.exclude)}
    for recipe in found.values():
        shape = (1, 28, 28) if recipe.data.name == "fashion_mnist" else (3, 32, 32)
        with torch.device("meta"):
            model = models.build(recipe.model.name, shape, 10, **recipe.model.options)
        assert any(verdict.parts for verdict in survey(model, recipe.include, recipe.exclude))


@pytest.mark.parametrize("scale", ["small", "full"])
@pytest.mark.parametrize("paper", ANALYSES)
def test_every_analysis_is_there_or_absent_by_name(paper: str, scale: str) -> None:
    suite = load_suite(f"{paper}/suite-{scale}").suite
    wanted = {" ".join(name.split()) for name in ANALYSES[paper].split(",")}
    assert wanted <= suite.analyses.keys() | suite.absent.keys()
    assert not suite.analyses.keys() & suite.absent.keys()
    baselines = {name.strip() for name in BASELINES.get(paper, "").split(",")} - {""}
    there = suite.analyses["comparison"].cases.keys() if baselines else set()
    assert {name for name in baselines - there if SAME.get(name, name) not in suite.absent} == set()


def test_two_cores_need_no_more_than_two_small_data_sets() -> None:
    for paper in ANALYSES:
        entries = load_suite(f"{paper}/suite-small").entries
        assert {entry.recipe.data.name for entry in entries} <= {"fashion_mnist", "cifar10"}
        assert max(entry.recipe.total_epochs for entry in entries) <= 50


def test_the_central_figure_of_itop() -> None:
    found = load_suite("itop/suite-central")
    assert {entry.seed for entry in found.entries} == {0, 1, 2, 3, 4}
    moving = [entry for entry in found.entries if entry.values["analysis"] == "exploration"]
    assert {entry.recipe.density for entry in moving} == {0.05}
    assert len({entry.values["method.every.interval"] for entry in moving}) == 6


DRAWN = "tost/fashion-mnist-mlp-lottery-rigl-small"  # a recipe, the others are suites
STARTED = [
    DRAWN,
    "itop/suite-small",
    "itop/suite-full",
    "freetickets/suite-small",
    "tost/suite-small",
    "tost/suite-full",
]


@pytest.mark.parametrize("name", STARTED)
def test_lottery_tickets_are_where_the_command_beside_them_draws_them(name: str) -> None:
    text = find(name, suites=name != DRAWN).read_text()
    command = re.search(r"regrow lottery (\S+)(?: --set (\S+))? --seeds 0,1,2 (?:\\\n#\s+)?--densities (\S+)", text)
    assert command is not None
    recipe = load(command[1], [command[2]] if command[2] else [])
    drawn = Lottery(tuple(map(float, command[3].split(","))))
    paths = set(re.findall(r"runs/\S+safetensors", text))
    assert len(paths) == 1
    folder, _, number = re.fullmatch(r"runs/(\S+)/(seed_\{seed\})/tickets/(\d+)\.safetensors", paths.pop()).groups()  # type: ignore[union-attr]
    assert folder == f"{recipe.name}-lottery-{_hash8(drawn, recipe)}"
    recipes = [load(name)] if name == DRAWN else [entry.recipe for entry in load_suite(name).entries]
    started = next(recipe for recipe in recipes if recipe.topology.name == "mask")
    assert started.density is None
    assert drawn.densities[int(number)] == (0.1 if "freetickets" in name else 0.05)


@pytest.mark.parametrize("paper", ["freetickets", "sup_tickets"])
@pytest.mark.parametrize("scale", ["small", "full"])
def test_teachers_are_where_the_command_beside_them_trains_them(paper: str, scale: str) -> None:
    name = f"{paper}/suite-{scale}"
    text = find(name, suites=True).read_text().replace(" \\\n#    ", "")
    command = re.search(r"first:(?:\n#)?\s+regrow run (\S+)((?: --set \S+)*) --seeds 0,1,2", text)
    assert command is not None
    teacher = load(command[1], re.findall(r"--set (\S+)", command[2]))
    taught = {entry.recipe.distill for entry in load_suite(name).entries} - {None}
    assert {path for spec in taught if spec for path in spec.teacher} == {f"runs/{teacher.folder}/seed_{{seed}}"}
