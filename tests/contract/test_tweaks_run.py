"""Law 5 with tweaks: a run that is killed while they fade goes on bit for bit; recipes have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import Images, small_job
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow import RegrowError
from regrow.core.saliency import Batch
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.tickets import Ticket
from regrow.train import checkpoint
from regrow.train.job import Job
from regrow.train.loop import Progress, fit
from regrow.train.paths import RunFolder
from regrow.tweaks import GhostSkip, LabelSmoothing, RescaledInit, SoftActivation, is_ghost
from regrow.tweaks.scales import Scaled

TWEAKS = [SoftActivation(until=0.75), GhostSkip(until=0.6), RescaledInit(iterations=3), LabelSmoothing(stop=0.0)]


def haunted_job(backend: str, method: str = "rigl-itop") -> Job:
    """12 steps; ghost skips live for 8 of them, soft neurons for 9; updates after 3, 6 and 9."""
    plain = small_job(backend=backend, method="static", checkpoint_every=1)
    assert plain.sparsifier is not None
    model, optimizer = plain.sparsifier.finalize(), plain.optimizer
    sparsifier = regrow.sparsify(
        model,
        optimizer,
        method=method,
        density=0.2,
        total_steps=12,
        every=3,
        seed=3,
        backend=backend,
        tweaks=TWEAKS,
        batches=[*Images().train(16, 3, 0)],
        loss=nn.functional.cross_entropy,
    )
    return dataclasses.replace(plain, sparsifier=sparsifier)


class Interrupted(Exception):
    pass


def stop_at(step: int) -> Any:
    def tell(progress: Progress) -> None:
        if progress.step == step:
            raise Interrupted

    return tell


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_killed_at_every_step(tmp_path: Path, backend: str) -> None:
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "folder")
    result = fit(haunted_job(backend), whole)
    ghosts = []
    for step in range(1, 12):
        with pytest.raises(Interrupted):
            fit(haunted_job(backend), folder, on_progress=stop_at(step + 1))
        ghosts.append(any(map(is_ghost, checkpoint.load(folder.checkpoint)["model"])))
    assert ghosts == [True] * 7 + [False] * 4  # of the steps 1 to 11: 12 * .6 = 7.2
    resumed = fit(haunted_job(backend), folder)
    for digest in ("model_digest", "topology_digest"):
        assert resumed[digest] == result[digest]
    states = [checkpoint.load(run.checkpoint) for run in (whole, folder)]
    for part in ("model", "optimizer", "scheduler", "sparsifier", "loss_sum"):
        assert checkpoint.digest(states[0][part]) == checkpoint.digest(states[1][part]), part


TINY = ["model.hidden=[16, 16]", "epochs=5", "batch_size=256", "threads=null"]


def test_the_demo_and_what_its_ghosts_cost(tmp_path: Path) -> None:
    recipe = load("demo/tost", TINY)
    plain = load("demo/static", TINY)
    job, base = job_of(recipe, 0), job_of(plain, 0)
    assert job.sparsifier is not None
    assert job.flops is not None
    assert base.flops is not None
    ghost = 2 * 64 * 16  # the second layer has an identity
    steps = job.sparsifier.tweaks.ghost_steps
    assert steps == -(-job.total_steps * 2 // 5)
    assert job.flops["training_ghosts"] == 3 * ghost * steps * 256
    assert job.flops["training"] == pytest.approx(base.flops["training"] + job.flops["training_ghosts"])
    assert job.flops["inference"] == base.flops["inference"]
    result = fit(job, RunFolder(tmp_path / "run"))
    assert result["flops"]["training_ghosts"] == job.flops["training_ghosts"]
    assert result["parameters"] == fit(base, RunFolder(tmp_path / "base"))["parameters"]


PLANS = {
    "freetickets": ["plan.explore=3", "plan.refine=[1, 1]", "plan.tickets=2"],
    "sup-tickets": ["plan.train=3", "plan.cycle=2", "plan.cycles=2"],
}


@pytest.mark.parametrize("backend", ["masked", "sparse"])
@pytest.mark.parametrize("plan", PLANS)
def test_plans_have_tweaks_in_their_first_phase(tmp_path: Path, plan: str, backend: str) -> None:
    tiny = [change for change in TINY if not change.startswith("epochs")]
    early = "soft-activation, {name: ghost-skip, until: 1.0}, {name: rescaled-init, iterations: 2}"
    four = f"tweaks=[{early}, label-smoothing]"
    changes = [*tiny, *PLANS[plan], f"backend={backend}", "method.every.interval=3", four]
    folder = RunFolder(tmp_path / "run")
    result = fit(job_of(load(f"demo/{plan}", changes), 0), folder)
    assert len(result["tickets"]) == 2
    tickets = [Ticket.load(folder.ticket(at)) for at in range(2)]
    assert not any(is_ghost(key) for ticket in tickets for key in ticket.state_dict())


@pytest.mark.parametrize(("precision", "half"), [("32-true", False), ("bf16-mixed", True)])
def test_the_initialisation_is_rescaled_in_the_precision_of_training(
    precision: str, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    plain = Scaled.loss

    def loss(self: Scaled, tensors: Mapping[str, Tensor], *batches: Batch) -> Tensor:
        self.loss_fn = lambda outputs, targets: seen.append(outputs.dtype) or cross_entropy(outputs, targets)  # type: ignore[func-returns-value]
        return plain(self, tensors, *batches)

    monkeypatch.setattr(Scaled, "loss", loss)
    tweak = "tweaks=[{name: rescaled-init, iterations: 2}]"
    job = job_of(load("demo/tost", [*TINY, f"precision={precision}", tweak]), 0)
    assert set(seen) == {torch.bfloat16 if half else torch.float32}
    assert not torch.is_autocast_enabled("cpu")
    assert all(parameter.dtype is torch.float32 for parameter in job.model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tweaks=[ghost-skp]"], "unknown tweak 'ghost-skp'; did you mean 'ghost-skip'"),
        (["tweaks=[{name: ghost-skip, alpha: 1}]"], "no hyper-parameter 'alpha'"),
        (["tweaks=[label-smoothing]", "label_smoothing=0.1"], "smooths labels twice"),
        (["method=null", "density=null", "backend=masked"], "`tweaks` but no `method`"),
    ],
)
def test_refused_recipes(changes: list[str], message: str) -> None:
    with pytest.raises(RegrowError, match=message):
        job_of(load("demo/tost", [*TINY, *changes]), 0)
