"""Lottery tickets: rounds by hand, rewinding to the bit, and a kill that costs at most the running epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import small

from regrow.core.errors import RegrowError
from regrow.lab.lottery import Lottery, draw, geometric
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.recipe.schema import Recipe
from regrow.tickets import Ticket
from regrow.train import checkpoint, loop, record
from regrow.train.job import Job
from regrow.train.loop import Progress
from regrow.train.paths import RunFolder
from regrow.train.state import restore

DENSITIES = (0.5, 0.2, 0.1)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside any repository: no commit to change while the test runs."""
    monkeypatch.chdir(tmp_path)


def plain(**changes: Any) -> Recipe:
    given = {"model": {"name": "mlp", "hidden": [16]}, "epochs": 3, "batch_size": 64, "schedule": {"name": "cosine"}}
    return small(**given | changes)


def drawn(tmp_path: Path, recipe: Recipe | None = None, **settings: Any) -> tuple[Path, list[Ticket]]:
    files = draw(Lottery(DENSITIES, **settings), recipe or plain(), seed=1, runs=tmp_path)
    assert [file.name for file in files] == ["0.safetensors", "1.safetensors", "2.safetensors"]
    return files[0].parent.parent, [Ticket.load(file) for file in files]


def digest(ticket: Ticket) -> str:
    return checkpoint.digest(ticket.state) + ticket.topology.digest()


def values(ticket: Ticket, source: Ticket) -> bool:
    """Whether the ticket's weights are those of `source`, which has more."""
    dense = source.state_dict()
    same = all(torch.equal(ticket.dense(n), dense[n] * ticket.topology[n]) for n in ticket.topology)
    return same and all(torch.equal(v, dense[n]) for n, v in ticket.state_dict().items() if n not in ticket.topology)


@pytest.mark.parametrize("rewind", ["weights", "learning-rate", "initial"])
def test_rounds(tmp_path: Path, rewind: str) -> None:
    folder, tickets = drawn(tmp_path, rewind=rewind)
    rounds = [RunFolder(folder / f"round_{number}") for number in range(3)]
    trained = [end_of(run) for run in rounds]
    steps = job_of(plain(), 1).steps_per_epoch
    for number, (ticket, density) in enumerate(zip(tickets, DENSITIES, strict=True)):
        before = trained[number]
        assert ticket.topology.nnz == round(density * ticket.topology.numel)
        assert (ticket.topology & before.topology) == ticket.topology, "what is gone stays gone"
        left = torch.cat([before.dense(n)[ticket.topology[n]].abs() for n in ticket.topology])
        lost = torch.cat([before.dense(n)[before.topology[n] & ~ticket.topology[n]].abs() for n in ticket.topology])
        assert float(left.min()) >= float(lost.max())
        assert record.read_json(rounds[number].result)["steps"] == 3 * steps
    if rewind == "learning-rate":
        assert all(values(ticket, before) for ticket, before in zip(tickets, trained, strict=True))
    else:
        origin = end_of(RunFolder(folder / "rewind"), 1) if rewind == "weights" else ticket_of(dense())
        assert all(values(ticket, origin) for ticket in tickets)
    rates = [[row["lr"] for row in record.rows(run)] for run in rounds]
    whole = rates[0]
    assert len(whole) == 3
    assert rates[1] == rates[2] == (whole if rewind == "initial" else whole[1:])


def dense() -> Job:
    return job_of(plain(method="static", density=1.0), 1)


def ticket_of(job: Job) -> Ticket:
    assert job.sparsifier is not None
    return Ticket.of(job.model, job.sparsifier)


def end_of(run: RunFolder, epochs: int = 3) -> Ticket:
    """Of a round by its own recipe."""
    job = job_of(load(run.recipe), 1) if run.recipe.exists() else replace(dense(), epochs=epochs)
    restore(job, run)
    return ticket_of(job)


def test_the_first_round_is_the_plain_run(tmp_path: Path) -> None:
    """Its first epoch, kept to be rewound to, makes no difference; without one it is made in a piece."""
    ends = set()
    for rewind, epoch in (("weights", 1), ("weights", 2), ("initial", 0)):
        folder, _ = drawn(tmp_path, rewind=rewind, epoch=epoch)
        run = RunFolder(folder / "round_0")
        ends.add(record.read_json(run.result)["model_digest"])
        assert [row["epoch"] for row in record.rows(run)] == [1, 2, 3]
    assert len(ends) == 1


def test_killed_it_loses_the_running_epoch_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = drawn(tmp_path / "whole")
    taken: list[tuple[str, int]] = []
    lottery, recipe = Lottery(DENSITIES), plain()
    steps = job_of(recipe, 1).steps_per_epoch
    calls = 0

    def watch(stage: str, progress: Progress) -> None:
        nonlocal calls
        taken.append((stage, progress.step))
        calls += 1
        if calls % (steps + 3) == 0:
            raise KeyboardInterrupt

    for _ in range(30):
        try:
            files = draw(lottery, recipe, seed=1, runs=tmp_path / "cut", on_progress=watch)
            break
        except KeyboardInterrupt:
            continue
    assert [digest(Ticket.load(file)) for file in files] == [digest(ticket) for ticket in whole]
    kills = calls // (steps + 3)
    assert kills > 3
    assert len(taken) - len(set(taken)) <= kills * steps
    assert len(set(taken)) == steps * (1 + 2 + 2 + 2)
    monkeypatch.setattr(loop, "_Run", None)  # nothing is trained again
    assert draw(lottery, recipe, seed=1, runs=tmp_path / "cut") == files


def test_a_ticket_starts_a_run_and_a_round_is_one(tmp_path: Path) -> None:
    """A round's folder holds the recipe it is trained by."""
    folder, tickets = drawn(tmp_path, plain(method="static", density=0.1, backend="sparse"), layers="each")
    topology = tickets[-1].topology
    assert list(topology.densities().values()) == pytest.approx([0.1, 0.1], abs=0.01)
    again = load(folder / "round_2" / "recipe.yaml")
    assert again.backend == "sparse"
    start = {"name": "mask", "path": str(folder / "tickets" / "2.safetensors"), "weights": True}
    job = job_of(plain(method="rigl-itop", topology=start, multiplier=400.0), 1)
    assert job.sparsifier is not None
    assert job.sparsifier.topology == topology
    assert values(Ticket.of(job.model, topology), tickets[-1])


def test_geometric_densities() -> None:
    assert geometric(0.2, 3) == pytest.approx((0.8, 0.64, 0.512))


def test_refusals(tmp_path: Path) -> None:
    for densities in ((), (0.5, 0.5), (1.0,), (0.5, 0.0)):
        with pytest.raises(RegrowError, match=r"densities=.*falls, below 1"):
            Lottery(densities)
    with pytest.raises(
        RegrowError, match=r"epoch=0: rewind to an epoch from 1 on, or to the start by rewind='initial'"
    ):
        Lottery(DENSITIES, epoch=0)
    for recipe, message in (
        (plain(method="rigl-itop", density=0.1), "give a dense or static recipe"),
        (plain(method="static", density=0.1, topology="snip"), "give a dense or static recipe"),
        (plain(method="static", density=0.2), r"has density 0\.2, the lottery's last is 0\.1"),
        (plain(epochs=1), r"epoch=1: small has 1 epochs, rewind to an earlier one"),
    ):
        with pytest.raises(RegrowError, match=message):
            draw(Lottery(DENSITIES), recipe, 1, tmp_path)
    assert not [*tmp_path.iterdir()]
