"""SIGKILL while tweaks fade, in every phase of plans, and between the stages of a lottery: it ends bit-identical."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kill_child import FILE_CALLS, Kill, watched

from regrow.tickets import Ticket
from regrow.train import checkpoint, record
from regrow.train.paths import RunFolder

pytestmark = pytest.mark.usefixtures("children")

DENSITIES = (0.5, 0.2)
Child = Callable[[Path, Kill | None], None]


def fades(folder: Path, kill: Kill | None) -> None:
    """Runs in the child: 12 steps with a checkpoint after each, ghosts until the 8th and the 9th."""
    os.chdir(folder.parent)
    from test_tweaks_run import haunted_job

    from regrow.train.loop import fit

    job, log = haunted_job("sparse"), watched(kill)
    fit(job, RunFolder(folder))
    folder.with_suffix(".calls").write_text("\n".join(log))


def phases(folder: Path, kill: Kill | None) -> None:
    """Runs in the child: EDST, then Sup-tickets, of two tickets: 18 steps each with a checkpoint after every one."""
    os.chdir(folder.parent)
    from test_plans import PLANS, job

    from regrow.train.loop import fit

    log = watched(kill)
    for plan in ("edst", "sup-tickets"):
        fit(job(PLANS[plan](2), "sparse"), RunFolder(folder / plan))
    folder.with_suffix(".calls").write_text("\n".join(log))


def lottery(folder: Path, kill: Kill | None) -> None:
    """Runs in the child: the epoch to rewind to and two rounds of two epochs."""
    os.chdir(folder.parent)
    from regrow.lab.lottery import Lottery, draw
    from regrow.recipe.schema import Recipe

    given = {"name": "small", "data": "synthetic:1x4x4x3", "model": {"name": "mlp", "hidden": [8]}, "optimizer": "sgd"}
    recipe = Recipe.model_validate(given | {"epochs": 2, "batch_size": 64})
    log = watched(kill)
    draw(Lottery(DENSITIES), recipe, seed=1, runs=folder)
    folder.with_suffix(".calls").write_text("\n".join(log))


def run(child: Child, folder: Path, kill: Kill | None = None) -> int | None:
    process = multiprocessing.get_context("forkserver").Process(target=child, args=(folder, kill))
    process.start()
    process.join()
    return process.exitcode


def end_of_fades(folder: Path) -> Any:
    stored = RunFolder(folder)
    state = checkpoint.load(stored.checkpoint)
    rows = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in record.rows(stored)]
    return checkpoint.digest({name: state[name] for name in ("model", "optimizer", "sparsifier")}), rows


def end_of_phases(folder: Path) -> Any:
    return [(end_of_fades(run), tickets_of(RunFolder(run).tickets())) for run in sorted(folder.iterdir())]


def end_of_lottery(folder: Path) -> Any:
    return tickets_of(sorted(folder.glob("*/seed_1/tickets/*.safetensors")))


def tickets_of(files: list[Path]) -> Any:
    tickets = [Ticket.load(file) for file in files]
    return [
        (file.name, checkpoint.digest(t.state), t.topology.digest()) for file, t in zip(files, tickets, strict=True)
    ]


STAGES: dict[str, tuple[Child, Callable[[Path], Any]]] = {
    "fades": (fades, end_of_fades),
    "phases": (phases, end_of_phases),
    "lottery": (lottery, end_of_lottery),
}


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_moments_spread_over_all_of_it(stage: str, tmp_path: Path) -> None:
    child, end = STAGES[stage]
    assert run(child, tmp_path / "whole") == 0
    calls = len((tmp_path / "whole.calls").read_text().split())
    wanted = end(tmp_path / "whole")
    for at in range(3, calls, calls // 5):
        folder = tmp_path / f"cut_{at}"
        assert run(child, folder, Kill(FILE_CALLS, at, "before")) == -signal.SIGKILL
        assert run(child, folder) == 0
        assert end(folder) == wanted
