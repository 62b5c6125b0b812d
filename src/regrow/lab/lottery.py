"""Lottery tickets: train, prune the smallest weights, rewind, and again; each round is a run in its own folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from regrow.core.distributions import counts
from regrow.core.errors import RegrowError
from regrow.core.ranking import keep
from regrow.core.topology import Topology
from regrow.recipe import folders
from regrow.recipe.build import job_of
from regrow.recipe.schema import MethodSpec, Recipe
from regrow.recipe.start import ERK, MASK, StartSpec
from regrow.tickets import Ticket
from regrow.tickets.superpose import kept
from regrow.train import atomic, checkpoint
from regrow.train.devices import launched
from regrow.train.job import Job
from regrow.train.loop import Progress, fit
from regrow.train.paths import RUNS, RunFolder
from regrow.train.state import content_of, restore
from regrow.train.timing import Stopwatch

Rewind = Literal["weights", "learning-rate", "initial"]


def geometric(share: float, rounds: int) -> tuple[float, ...]:
    """The densities of pruning `share` of what is left, round after round: (1 - share)^r."""
    return tuple((1.0 - share) ** (r + 1) for r in range(rounds))


@dataclass(frozen=True)
class Lottery:
    """Iterative magnitude pruning with rewinding.

    Args:
        densities: what each round leaves, falling, in (0, 1); `geometric(.2, rounds)` is a fifth of what is left.
        rewind: what the next round starts with. "weights": those of step k, and training from there (Frankle et al.
            2020, arXiv:1912.05671); "initial": k = 0 (Frankle & Carbin 2019, arXiv:1803.03635); "learning-rate": the
            trained weights, and the learning rates from step k on (Renda et al. 2020, arXiv:2003.02389).
        epoch: k, in epochs; of no use to "initial".
        layers: weights are pruned "global"ly, but never a whole layer, or in "each" layer alike.
    """

    densities: tuple[float, ...]
    rewind: Rewind = "weights"
    epoch: int = 1
    layers: Literal["global", "each"] = "global"

    def __post_init__(self) -> None:
        steps = [1.0, *self.densities]
        if not self.densities or any(not 0 < low < high for high, low in pairwise(steps)):
            raise RegrowError(
                f"densities={list(self.densities)}: what rounds leave falls, below 1, such as [.5, .2, .1]"
            )
        if self.epoch < 0 or (self.rewind == "weights" and self.epoch == 0):
            raise RegrowError(f"epoch={self.epoch}: rewind to an epoch from 1 on, or to the start by rewind='initial'")

    @property
    def begin(self) -> int:
        """k: the epoch every round but the first begins at."""
        return 0 if self.rewind == "initial" else self.epoch

    def pruned(self, ticket: Ticket, density: float) -> Topology:
        """The largest weights of a trained ticket, exactly round(density * numel) of them."""
        topology, shapes = ticket.topology, ticket.topology.shapes
        scores = {name: ticket.dense(name).abs() for name in topology}
        if self.layers == "each":
            return keep(scores, counts(shapes, dict.fromkeys(shapes, density)), topology)
        return keep(scores, round(density * topology.numel), topology, floor=1)


def draw(
    lottery: Lottery,
    recipe: Recipe,
    seed: int,
    runs: Path = RUNS,
    data_root: Path | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> list[Path]:
    """The files of the tickets, one per density: mask and the weights to start it from, as `topology:` takes them.

    What is there already is not done again, so that killing it loses at most the running epoch. In one process.

    Args:
        recipe: how a round is trained; a dense one, or a static one at the last density, whose backend is used.
        runs: the folder `<recipe>-lottery-<hash8>/seed_<k>` in it holds `rewind`, `round_<r>` and `tickets`.
        on_progress: told the stage and its progress after every step.

    Raises:
        RegrowError: a recipe that is no plain training, or an epoch to rewind to that is not in it.
    """
    base = _dense(lottery, recipe, seed)
    folder = runs / f"{recipe.name}-lottery-{_hash8(lottery, recipe)}" / f"seed_{seed}"
    made = [folder / "tickets" / f"{number}.safetensors" for number in range(len(lottery.densities))]
    with launched(precision=recipe.precision) as fabric:

        def train(stage: str, recipe: Recipe, epochs: int | None = None, start: RunFolder | None = None) -> Ticket:
            """What a stage ends with, which may be a run's first epochs, or go on from another's checkpoint."""
            run, job = RunFolder(folder / stage), job_of(recipe, seed, data_root)
            if epochs is None:
                folders.keep(recipe, run)
            else:
                job = replace(job, epochs=epochs)
            if run.finished:
                restore(job, run)
            elif start is not None and not run.checkpoint.exists():
                _begin(job, run, start)
            fit(job, run, fabric, on_progress and (lambda progress: on_progress(stage, progress)))
            return _ticket(job)

        origin = RunFolder(folder / "rewind") if lottery.begin else None
        for number, (density, path) in enumerate(zip(lottery.densities, made, strict=True)):
            if path.exists():
                continue
            early = train("rewind", base, epochs=lottery.begin) if origin else _ticket(job_of(base, seed, data_root))
            trained = train(f"round_{number}", _from(base, made[number - 1]) if number else base, start=origin)
            source = trained if lottery.rewind == "learning-rate" else early
            told = {"seed": seed, "round": number, "density": density, **asdict(lottery)}
            meta = {key: str(word) for key, word in told.items()}
            replace(kept(source, lottery.pruned(trained, density)), meta=meta).save(path)
    return made


def _dense(lottery: Lottery, recipe: Recipe, seed: int) -> Recipe:
    """The recipe of the first round."""
    plain = recipe.method is None or recipe.method.name == "static"
    if not plain or recipe.topology != ERK or recipe.overrides or recipe.plan is not None:
        raise RegrowError(
            f"{recipe.name}: a lottery trains and prunes by itself; give a dense or static recipe without topology, "
            "overrides and plan"
        )
    if recipe.density not in (None, lottery.densities[-1]):
        raise RegrowError(
            f"{recipe.name} has density {recipe.density:g}, the lottery's last is {lottery.densities[-1]:g}: "
            "make them equal"
        )
    if lottery.begin >= recipe.total_epochs:
        raise RegrowError(
            f"epoch={lottery.begin}: {recipe.name} has {recipe.total_epochs} epochs, rewind to an earlier one"
        )
    static = MethodSpec.model_validate({"name": "static"})
    return recipe.model_copy(update={"method": static, "density": 1.0, "seeds": (seed,)})


def _from(base: Recipe, ticket: Path) -> Recipe:
    """The recipe of a later round."""
    start = StartSpec.model_validate({"name": MASK, "path": str(ticket), "weights": True})
    return base.model_copy(update={"density": None, "topology": start})


def _hash8(lottery: Lottery, recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps([recipe.hash8, asdict(lottery)]).encode()).hexdigest()[:8]


def _ticket(job: Job) -> Ticket:
    assert job.sparsifier is not None
    return Ticket.of(job.model, job.sparsifier)


def _begin(job: Job, run: RunFolder, origin: RunFolder) -> None:
    """Write the checkpoint from which `job` goes on at the step where `origin` ended: its learning rate and data.

    The job's own weights and topology stay, with an optimizer that has seen nothing; but the first round, which has
    origin's topology, goes on from all of it.
    """
    content = checkpoint.load(origin.checkpoint)
    step = content["step"]
    assert job.sparsifier is not None
    assert job.scheduler is not None
    content["identity"] = job.identity
    if job.sparsifier.density == 1.0:
        atomic.write(run.metrics, origin.metrics.read_bytes())
    else:
        job.sparsifier.load_state_dict(job.sparsifier.state_dict() | {"step": step})  # the steps before cost it nothing
        job.scheduler.load_state_dict(content["scheduler"])
        fresh = {"loss_sum": 0.0, "row": {}, "watch": Stopwatch().state_dict(), "best": None}
        content |= content_of(job, step) | fresh
    checkpoint.save(run.checkpoint, content)
