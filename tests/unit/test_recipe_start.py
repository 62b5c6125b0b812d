"""The `topology` block: short and long, what it builds, its hash, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import small

from regrow.core.distributions import ERK, counts
from regrow.core.errors import RegrowError
from regrow.recipe.build import job_of
from regrow.recipe.load import dump, parse, recipe_of
from regrow.tickets import Ticket, masks
from regrow.train.job import Job
from regrow.train.loop import Progress, fit
from regrow.train.paths import RunFolder

SPARSE = {"method": "static", "density": 0.1, "model": {"name": "mlp", "hidden": [32, 32]}}


def job(seed: int = 0, **changes: Any) -> Job:
    return job_of(small(**SPARSE | changes), seed)


def topology(seed: int = 0, **changes: Any) -> str:
    made = job(seed, **changes)
    assert made.sparsifier is not None
    return made.sparsifier.topology.digest()


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow", "taylor", "random", "uniform"])
def test_a_start_by_name(name: str) -> None:
    """A function of the seed: of the model's weights, and of the batch that is drawn by it."""
    sparsifier = job(topology=name).sparsifier
    assert sparsifier is not None
    assert sparsifier.topology.nnz == round(0.1 * sparsifier.topology.numel)
    assert sparsifier.topology.digest() == topology(topology=name) != topology(1, topology=name)


def test_short_and_long_are_one_recipe() -> None:
    short, long = (small(**SPARSE, topology=t) for t in ("snip", {"name": "snip"}))
    assert short == long
    assert short.hash8 == long.hash8 != small(**SPARSE, topology="grasp").hash8
    assert small(**SPARSE, topology="erk").hash8 == small(**SPARSE).hash8
    assert "topology: snip\n" in dump(long)
    options = small(**SPARSE, topology={"name": "grasp", "temperature": 100.0, "layers": "erk", "per_class": 2})
    assert recipe_of(parse(dump(options), "x"), "x") == options


def test_options() -> None:
    by_layer = job(topology={"name": "grasp", "temperature": 1, "layers": "erk", "per_class": 2}).sparsifier
    assert by_layer is not None
    found = by_layer.topology
    assert {name: found.nnz_of(name) for name in found} == counts(found.shapes, ERK()(found.shapes, 0.1))
    with pytest.raises(RegrowError, match=r"layer collapse: .*'fc1\.weight' has 0 of 2048"):
        job(topology={"name": "synflow", "iterations": 1})  # in one step it empties what it does not in a hundred
    first = job(topology={"name": "uniform", "dense_first": True}).sparsifier
    assert first is not None
    assert first.topology.densities()["fc1.weight"] == 1.0


def test_a_mask_by_its_path(tmp_path: Path) -> None:
    """The density is the mask's; a ticket may give its weights too."""
    lent = job(1, topology="snip")
    assert lent.sparsifier is not None
    mask = lent.sparsifier.topology
    masks.write(mask, tmp_path / "mask.npz")
    Ticket.of(lent.model, lent.sparsifier).save(tmp_path / "ticket.safetensors")
    for density in (None, 0.1):
        assert topology(topology=str(tmp_path / "mask.npz"), density=density) == mask.digest()
    plain, whole = (
        job(topology={"name": "mask", "path": str(tmp_path / "ticket.safetensors"), "weights": w})
        for w in (False, True)
    )
    for made in (plain, whole):
        assert made.sparsifier is not None
        assert made.sparsifier.topology == mask
    state = lent.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.model.state_dict().items())
    assert not torch.equal(plain.model.state_dict()["fc1.bias"], state["fc1.bias"])


def test_every_seed_its_own_mask(tmp_path: Path) -> None:
    digests = []
    for seed in (0, 1):
        lent = job(seed, topology="snip").sparsifier
        assert lent is not None
        masks.write(lent.topology, tmp_path / f"mask_{seed}.npz")
        digests.append(lent.topology.digest())
    assert [topology(seed, topology=str(tmp_path / "mask_{seed}.npz")) for seed in (0, 1)] == digests


def test_a_run_from_a_saliency_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is scored again on the way is replaced by what the checkpoint holds."""
    monkeypatch.chdir(tmp_path)  # outside any repository: no commit to change while the test runs
    changes = {"topology": "snip", "method": {"name": "set", "every": {"interval": 5}}, "batch_size": 64}
    whole = fit(job(**changes), RunFolder(tmp_path / "whole"))

    def stop(progress: Progress) -> None:
        if progress.step == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(job(**changes), RunFolder(tmp_path / "cut"), on_progress=stop)
    ended = fit(job(**changes), RunFolder(tmp_path / "cut"))
    assert ended["model_digest"] == whole["model_digest"]
    assert ended["topology_digest"] == whole["topology_digest"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "snipe",
            r"topology\.name.*is 'snipe', but there is no such start; did you mean 'snip'\? Valid: uniform, er, erk,",
        ),
        (3, r"`topology` is 3, but should be a name or a block"),
        (
            {"name": "snip", "temperature": 2.0},
            r"topology has no option 'temperature'\. Valid: iterations, layers, floor",
        ),
        ({"name": "grasp", "temprature": 2.0}, r"no option 'temprature'; did you mean 'temperature'\?"),
        ({"name": "snip", "floor": 0.5}, r"topology\.floor is 0\.5, but should be like 1"),
        ({"name": "snip", "layers": "erks"}, r"unknown topology\.layers 'erks'; did you mean 'erk'"),
        ({"name": "snip", "per_class": 10_000}, r"needs 10000 samples of each of 10 classes, but the data hold only"),
        ({"name": "synflow", "iterations": 0}, r"iterations=0: weights are scored once at least"),
        ({"name": "grasp", "temperature": 0.0}, r"temperature=0: it divides the outputs and is > 0"),
        ({"name": "mask"}, r"topology\.path is missing"),
        ("nowhere/mask.npz", r"nowhere/mask\.npz: no such file"),
    ],
)
def test_refusals(given: Any, message: str) -> None:
    with pytest.raises(RegrowError, match=message):
        job(topology=given)
