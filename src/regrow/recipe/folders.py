"""Which folder a run has, which runs a folder holds, and what is in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regrow.core import growth
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.methods.base import Method
from regrow.methods.drop_grow import DropGrow
from regrow.metrics.exploration import forecast
from regrow.recipe.load import dump, load
from regrow.recipe.schema import LABELS, Recipe
from regrow.train import atomic, checkpoint
from regrow.train.paths import RunFolder, is_ticket


def wanted(recipe: Recipe, seed: int, runs: Path) -> tuple[Recipe, RunFolder]:
    """The recipe of one seed, and the folder of its run.

    Raises:
        RegrowError: the folder holds a run of another recipe (changed by hand, or a clash of hashes).
    """
    recipe = recipe.model_copy(update={"seeds": (seed,)})
    folder = RunFolder.of(recipe.folder, seed, runs)
    if folder.recipe.exists():
        stored = load(folder.recipe)
        if stored.model_dump(exclude=set(LABELS)) != recipe.model_dump(exclude=set(LABELS)):
            raise RegrowError(
                f"{folder.recipe} is not the recipe that its folder is named after: it was changed. Delete the folder, "
                "or give another --runs."
            )
    return recipe, folder


def keep(recipe: Recipe, folder: RunFolder) -> RunFolder | None:
    """Put the resolved recipe into its folder, if it is not there, and before it what a shorter run has done already.

    A plan's phases do not depend on how many follow: a run with more tickets goes on where one with fewer has got to,
    whose folder is returned.
    """
    if folder.recipe.exists():
        return None
    for path in recipe.distill.paths(recipe.seeds[0]) if recipe.distill else ():
        left_by(path)  # or refused, before anything is kept
    shorter = _shorter(recipe, folder)
    if shorter:
        _continue(shorter, folder)
    atomic.write(folder.recipe, dump(recipe).encode())
    return shorter


def _shorter(recipe: Recipe, folder: RunFolder) -> RunFolder | None:
    """Beside `folder`, the run of the same seed and recipe with the most tickets, but fewer than this one's."""
    counted = recipe.plan and recipe.plan.counted
    if not recipe.plan or not counted:
        return None
    for tickets in range(getattr(recipe.plan, counted) - 1, 0, -1):
        fewer = recipe.model_copy(update={"plan": recipe.plan.model_copy(update={counted: tickets})})
        run = RunFolder.of(fewer.folder, recipe.seeds[0], folder.path.parent.parent)
        if run.checkpoint.exists():
            return run
    return None


def _continue(run: RunFolder, folder: RunFolder) -> None:
    """Copy what a run consists of while it goes; its result and average are not among it."""
    state = run.checkpoint.read_bytes()  # first, as the run may be under way, and written last: it makes the copy valid
    for file in [*run.path.glob("tickets/[0-9]*"), run.metrics, run.environment]:
        atomic.write(folder.path / file.relative_to(run.path), file.read_bytes())
    atomic.write(folder.checkpoint, state)


def recipe_in(folder: RunFolder) -> Recipe:
    """That of a run, or of the run whose ticket is looked at.

    Raises:
        RegrowError: there is none.
    """
    if not folder.recipe.exists():
        raise RegrowError(
            f"{folder.path} holds no recipe.yaml, which says what model and data this is: give a run's folder, "
            "runs/<recipe>-<hash8>/seed_0, or a ticket in its folder `tickets`"
        )
    return load(folder.recipe)


def runs_in(path: Path) -> list[RunFolder]:
    """The runs at or below `path`: one seed, all seeds of a recipe, or everything in `runs`.

    Raises:
        RegrowError: there is none.
    """
    found = sorted(path.rglob("recipe.yaml"), key=lambda file: (file.parent.parent, len(file.parent.name), file))
    if not found:
        raise RegrowError(f"{path} holds no run. A run is a folder such as runs/<recipe>-<hash8>/seed_0.")
    return [RunFolder(file.parent) for file in found]


@dataclass(frozen=True)
class Left:
    """What a finished run has left: its numbered tickets, or none: then its last iterate; or one ticket asked for."""

    folder: RunFolder
    tickets: tuple[Path, ...]


def left_by(path: Path) -> list[Left]:
    """Of the runs at or below `path`, or of the run whose ticket it is.

    Raises:
        RegrowError: there is none, or it is not finished.
    """
    if is_ticket(path):
        folder = RunFolder.around(path)
        if not (path.exists() and folder.recipe.exists()):
            raise RegrowError(f"{path} is no ticket in the folder `tickets` of its run, which says what model it is of")
        return [Left(folder, (path,))]
    found = runs_in(path)
    if unfinished := [folder.path for folder in found if not folder.finished]:
        raise RegrowError(f"{unfinished[0]} is not finished. Go on with: regrow resume {unfinished[0]}")
    return [Left(run, tuple(ticket for ticket in run.tickets() if ticket.stem.isdecimal())) for run in found]


def layers(folder: RunFolder, method: Method) -> list[dict[str, str]]:
    """Per sparse layer of the checkpoint: what exists, what ever did, and what will have where that can be foreseen."""
    state = checkpoint.load(folder.checkpoint)["sparsifier"]
    if state is None:
        raise RegrowError(f"{folder.checkpoint} holds no sparsifier, but {folder.recipe} names a method.")
    topology, explored = Topology.unpack(state["topology"]), Topology.unpack(state["explored"])
    density, rate = topology.densities(), explored.densities()
    ahead = _forecast(topology, method, state["setup"].get("total_steps"))
    return [
        {
            "layer": name,
            "shape": "x".join(map(str, topology.shape(name))),
            "weights": f"{topology.nnz_of(name):,}",
            "sparsity %": f"{100 * (1 - density[name]):.2f}",
            "R_s": f"{rate[name]:.3f}",
            **({"R_s forecast": f"{ahead[name]:.3f}"} if ahead else {}),
        }
        for name in topology
    ]


def _forecast(topology: Topology, method: Method, total_steps: int | None) -> Mapping[str, float]:
    """R_s per layer at the end of the run, where growth is random and no plan explores, and so foreseeable."""
    if (
        total_steps is None
        or not isinstance(method, DropGrow)
        or method.grow is not growth.random
        or method.every is None
    ):
        return {}
    course = forecast(topology.shapes, topology.densities(), method.fraction, method.every, total_steps)
    return course[-1].layers
