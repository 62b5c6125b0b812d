"""Every shipped recipe is parsed and takes 3 steps, on random data of its shape where real data is not embedded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrow.recipe import load as module
from regrow.recipe.build import job_of, method_of
from regrow.recipe.load import load, shipped, shipped_names

SHAPES = {
    "fashion_mnist": "synthetic:1x28x28x10",
    "cifar10": "synthetic:3x32x32x10",
    "cifar100": "synthetic:3x32x32x100",
    "folder:imagenet:224": "synthetic:3x64x64x1000",
}
STEPS = 3
PATHS = [shipped() / f"{name}.yaml" for name in shipped_names()]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_it_takes_steps(path: Path) -> None:
    recipe = load(path)
    moves = recipe.method is not None and recipe.method.name != "static" and getattr(recipe.plan, "evolve", True)
    settings = [f"data.name={SHAPES.get(recipe.data.name, recipe.data.name)}", "batch_size=2"]
    settings += ["model={name: wrn, depth: 28, width: 1}"] if recipe.model.name == "wrn28_10" else []
    settings += ["distill=null"] if recipe.distill else []  # its teacher is not shipped, nor is a lottery ticket
    settings += ["topology=erk", "density=0.05"] if recipe.topology.name == "mask" else []
    short = {"rescaled-init": {"iterations": 2}}
    tweaks = [{"name": tweak.name, **tweak.options, **short.get(tweak.name, {})} for tweak in recipe.tweaks]
    settings += [f"tweaks={json.dumps(tweaks)}"] if tweaks else []
    settings += ["method.every.interval=2"] if moves else []
    recipe = load(path, settings)
    job = job_of(recipe, seed=0)
    assert job.scheduler is not None
    before = job.sparsifier and job.sparsifier.topology
    loss = job.sparsifier.loss(job.loss) if job.sparsifier else job.loss
    for _, (inputs, targets) in zip(range(STEPS), job.data.train(job.batch_size, seed=0, epoch=0), strict=False):
        loss(job.model(inputs), targets).backward()
        job.optimizer.step()
        job.optimizer.zero_grad()
        job.scheduler.step()
    assert job.flops is not None
    assert 0 < job.flops["inference_ratio"] <= 1
    if job.sparsifier and before:
        assert job.sparsifier.step == STEPS
        start = job.sparsifier.method.initial_density(recipe.density)
        assert (job.sparsifier.topology.nnz < before.nnz) == (start != recipe.density)
        assert (job.sparsifier.topology.digest() != before.digest()) == moves
        assert before.density == pytest.approx(start, rel=0.01)


@pytest.mark.parametrize(
    ("name", "samples", "updates"),
    [("fashion-mnist-mlp-granet-small", 54_000, 56), ("fashion-mnist-mlp-prune-finetune-small", 54_000, 1)],
)
def test_updates_of_the_baselines(name: str, samples: int, updates: int) -> None:
    recipe = load(f"baselines/{name}")
    assert recipe.method is not None
    every = method_of(recipe.method).every
    assert every is not None
    assert every.updates(recipe.total_epochs * (samples // recipe.batch_size)) == updates


def test_names_are_unique_and_every_room_is_filled() -> None:
    recipes = [load(path) for path in PATHS]
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    assert {path.parent.name for path in PATHS} >= {"baselines", "demo", "freetickets", "itop", "smoke", "sup_tickets"}


@pytest.mark.parametrize(("name", "updates"), [("cifar10-vgg16-set", 58), ("cifar10-vgg16-rigl", 21)])
def test_the_papers_number_of_updates(name: str, updates: int) -> None:
    """45,000 images are 351 whole batches of 128: 87,750 steps (88,000 and 22 updates with the partial batch kept)."""
    recipe = load(f"itop/{name}")
    assert recipe.method is not None
    every = method_of(recipe.method).every
    assert every is not None
    steps = 45_000 // recipe.batch_size
    assert every.updates(recipe.total_epochs * steps) == updates
    doubled = load(f"itop/{name}", ["multiplier=2"])
    assert every.updates(doubled.total_epochs * steps) == pytest.approx(2 * updates, abs=1)


def test_recipes_are_found_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel holds them beside the code; a clone at its root."""
    (tmp_path / "shipped" / "demo").mkdir(parents=True)
    (tmp_path / "shipped" / "demo" / "dense.yaml").write_text((shipped() / "demo/dense.yaml").read_text())
    monkeypatch.setattr(module, "__file__", str(tmp_path / "load.py"))
    assert load("demo/dense").name == "digits-dense"
