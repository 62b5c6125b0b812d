"""A run on a plan: what its phases do, killed in any of them, extended, on both backends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backends import BACKENDS, bits, start
from small_run import Images, small_model
from torch import nn
from zoo import STEPS, plain, train

import regrow
from interrupt import Interrupted, stop_at
from regrow import RegrowError
from regrow.core.schedules import Constant
from regrow.tickets import Ticket
from regrow.tickets.plan import Phase, Plan, PlanLR, capture_steps, edst, fge, snapshot, sup_tickets, swa, total_steps
from regrow.tickets.superpose import CIA, superpose
from regrow.train import checkpoint, record
from regrow.train.job import Job
from regrow.train.loop import fit
from regrow.train.paths import RunFolder
from regrow.train.record import Record

PLANS: dict[str, Callable[[int], Plan]] = {
    "edst": lambda tickets: edst(6, 6, tickets),
    "sup-tickets": lambda tickets: sup_tickets(6, 6, tickets, low=0.1, high=0.5),
    "snapshot": lambda tickets: snapshot(6, tickets + 1, explore=0.5),
}


def job(plan: Plan, backend: str = "masked", method: str | None = "rigl-itop", **changes: Any) -> Job:
    """Epochs of 6 steps, updates every second or third."""
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    sparsifier = method and regrow.sparsify(
        model, optimizer, method=method, density=0.2, plan=plan, every=2, seed=3, backend=backend
    )
    setup = {
        "sparsifier": sparsifier,
        "scheduler": PlanLR(optimizer, plan),
        "scheduler_every": "step",
        "checkpoint_every": 1,
        "threads": 1,
        "plan": plan,
        "superposition": lambda loss: CIA(),
    }
    return Job(model, optimizer, Images(), nn.CrossEntropyLoss(), total_steps(plan) // 6, 16, 3, **setup | changes)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunFolder]:
    monkeypatch.chdir(tmp_path)
    return lambda name: RunFolder(tmp_path / name)


Folders = Callable[[str], RunFolder]


def assert_alike(one: RunFolder, other: RunFolder, tickets: int) -> None:
    states = [checkpoint.load(run.checkpoint) for run in (one, other)]
    for part in ("model", "optimizer", "scheduler", "sparsifier", "loss_sum"):
        assert checkpoint.digest(states[0][part]) == checkpoint.digest(states[1][part]), part
    for number in range(tickets):
        assert content(one.ticket(number)) == content(other.ticket(number))


def content(path: Path) -> list[Any]:
    ticket = Ticket.load(path)
    return [checkpoint.digest(dict(sorted(ticket.state.items()))), ticket.topology.digest(), ticket.meta]


@pytest.mark.parametrize(
    ("name", "backend", "selection"),
    [*((name, backend, "last") for name in PLANS for backend in BACKENDS), ("edst", "masked", "best")],
)
def test_killed_at_any_step_of_any_phase(name: str, backend: str, selection: str, folders: Folders) -> None:
    def again() -> Job:
        return job(PLANS[name](2), backend, selection=selection)

    whole, folder = folders("whole"), folders("run")
    result = fit(again(), whole)
    for step in range(1, 18):
        with pytest.raises(Interrupted):
            fit(again(), folder, on_progress=stop_at(step + 1))
    resumed = fit(again(), folder)
    assert_alike(whole, folder, len(capture_steps(PLANS[name](2))))
    assert content(whole.superposed) == content(folder.superposed)
    for key in ("model_digest", "topology_digest", "tickets", "ensemble", "superposed", "test_nll"):
        assert resumed[key] == result[key]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_extended_without_redoing_what_was_done(name: str, backend: str, folders: Folders) -> None:
    """One more ticket: the shorter run's checkpoint goes on, and all is as if it had been the longer one at once."""
    whole, folder = folders("whole"), folders("run")
    fit(job(PLANS[name](3), backend), whole)
    fit(job(PLANS[name](2), backend), folder)
    folder.result.unlink()
    steps = []
    fit(job(PLANS[name](3), backend), folder, on_progress=lambda progress: steps.append(progress.step))
    assert steps == list(range(19, 25))
    assert_alike(whole, folder, len(capture_steps(PLANS[name](3))))


def test_the_past_cannot_be_changed() -> None:
    model, optimizer, sparsifier = start("masked", plan=edst(6, 6, 1), total_steps=0)
    train(model, optimizer, range(1, 8))
    state = sparsifier.state_dict()
    for plan in (edst(5, 7, 1), edst(6, 5, 1), (*edst(6, 6, 1)[:1], Phase(6, evolve=False))):
        with pytest.raises(RegrowError, match="differs from this one in plan: saved"):
            start("masked", plan=plan, total_steps=0)[2].load_state_dict(state)
    start("masked", plan=edst(6, 6, 4), total_steps=0)[2].load_state_dict(state)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs", "granet"])
def test_own_loops_resume_from_every_step(method: str, backend: str) -> None:
    plan = sup_tickets(5, 4, 2)
    ends = []
    for stop in range(14):
        run = start(backend, method, plan=plan, total_steps=0)
        train(run[0], run[1], range(1, stop + 1))
        again = start(backend, method, seed=9, plan=plan, total_steps=0)
        again[0].load_state_dict(run[0].state_dict())
        again[1].load_state_dict(run[1].state_dict())
        again[2].load_state_dict(run[2].state_dict())
        train(again[0], again[1], range(stop + 1, 14))
        ends.append(bits(again))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_phase_holds_the_topology_but_for_its_exploration(backend: str) -> None:
    model, optimizer, sparsifier = start(backend, "set", plan=sup_tickets(6, 4, 2, explore=0.5), total_steps=0, every=2)
    moved = []
    for step in range(1, 15):
        before = sparsifier.topology
        plain(model, optimizer, step)
        if sparsifier.topology != before:
            moved.append(step)
            if step > 6:
                assert sparsifier.last_update is not None
                expected = sum(before.nnz_of(name) // 2 for name in before)
                assert 0 < sparsifier.last_update["grown"] <= expected
        assert sparsifier.topology.nnz == before.nnz
    assert moved == [2, 4, 6, 7, 11]


def test_a_phase_has_its_own_drop_fraction() -> None:
    plan = (Phase(4, fraction=Constant(0.5)), Phase(4, fraction=Constant(0.0)), Phase(4))
    model, optimizer, sparsifier = start("masked", "set", plan=plan, total_steps=0, every=2)
    moved = []
    for step in range(1, STEPS + 1):
        before = sparsifier.topology
        plain(model, optimizer, step)
        if sparsifier.topology != before:
            moved.append(step)
    assert moved == [2, 4, 10, 12]


@pytest.mark.parametrize("method", ["rigl-itop", None])
@pytest.mark.parametrize(
    "plan",
    [snapshot(6, 3), fge(6, 6, 2, low=0.1, high=0.5), swa(6, 6, 2), edst(6, 12, 1)],
    ids=["snapshot", "fge", "swa", "edst"],
)
def test_other_plans_and_dense_networks(plan: Plan, method: str | None, folders: Folders) -> None:
    folder = folders("run")
    result = fit(job(plan, method=method), folder)
    rows = result["tickets"]
    assert [row["file"] for row in rows] == [f"{number}.safetensors" for number in range(len(rows))]
    assert result["ensemble"]["members"] == len(rows)
    tickets = [Ticket.load(folder.ticket(number)) for number in range(len(rows))]
    average = superpose(tickets, CIA()).state_dict()
    kept = Ticket.load(folder.superposed).state_dict()
    assert all(torch.equal(average[key], kept[key]) for key in kept)
    assert rows[-1]["test_accuracy"] == result["test_accuracy"]  # the last ticket is the last iterate
    assert rows[-1]["test_nll"] == pytest.approx(result["test_nll"])
    live = job(plan, method=method).model
    assert checkpoint.digest(tickets[-1].apply(live).state_dict()) == result["model_digest"]


def test_the_ensemble_is_the_mean_of_probabilities(folders: Folders) -> None:
    folder = folders("run")
    result = fit(job(edst(6, 6, 3)), folder)
    inputs, targets = (torch.cat(part) for part in zip(*Images().evaluate("test"), strict=True))
    members = [
        Ticket.load(folder.ticket(number)).apply(small_model()).eval()(inputs).softmax(-1) for number in range(3)
    ]
    for row, p in zip(result["tickets"], members, strict=True):
        assert row["test_accuracy"] == (p.argmax(-1) == targets).double().mean().item()
    mean = torch.stack(members).mean(0)
    assert result["ensemble"]["test_nll"] == pytest.approx(-mean[range(32), targets].log().mean().item(), rel=1e-5)
    assert result["ensemble"]["test_nll"] <= sum(row["test_nll"] for row in result["tickets"]) / 3  # Jensen
    assert len({Ticket.load(folder.ticket(number)).topology.digest() for number in range(3)}) == 3


def test_the_best_epoch_of_a_phase(folders: Folders) -> None:
    plan = (Phase(30, capture=True),)
    folder = folders("run")
    result: Record = fit(job(plan, selection="best"), folder)
    rows = [row["val_accuracy"] for row in record.rows(folder)]
    assert result["tickets"][0]["epoch"] == 1 + rows.index(max(rows))
    assert result["selection"] == "best"
    seldom = fit(job(plan, selection="best", evaluate_every=4), folders("seldom"))
    assert seldom["tickets"][0]["epoch"] in (4, 5)


def test_batch_norm_of_the_average_estimated_anew(folders: Folders) -> None:
    folder = folders("run")
    result = fit(job(PLANS["sup-tickets"](2), reestimate=True), folder)
    average, ticket = Ticket.load(folder.superposed), Ticket.load(folder.ticket(1))
    assert average.state["1.num_batches_tracked"] == 6
    assert average.topology.nnz == ticket.topology.nnz
    assert result["superposed"]["nnz"] == ticket.topology.nnz


def test_a_plan_of_another_length_is_refused(folders: Folders) -> None:
    with pytest.raises(RegrowError, match=r"the plan has 12 steps, the run 18"):
        fit(dataclasses.replace(job(edst(6, 6, 1)), epochs=3), folders("run"))


def test_who_follows_the_plan(folders: Folders) -> None:
    with pytest.raises(RegrowError, match="the sparsifier follows another plan"):
        fit(dataclasses.replace(job(edst(6, 6, 2)), plan=edst(6, 6, 2, escape=0.7)), folders("run"))
    with pytest.raises(RegrowError, match="a dense network has nowhere to go"):
        fit(job(edst(6, 6, 2), method=None), folders("run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_steps": 5}, "total_steps=5, but the plan has 12 steps"),
        ({"method": "static"}, r"the plan explores, but the method never updates"),
        ({"every": 50, "plan": edst(6, 6, 1)}, r"updates every 50 steps, the longest phase has 6: .* every=1,"),
    ],
)
def test_faulty_setups(changes: dict[str, Any], message: str) -> None:
    setup = {"plan": sup_tickets(6, 3, 2), "total_steps": 0, "method": "set"} | changes
    with pytest.raises(RegrowError, match=message):
        start("masked", setup.pop("method"), **setup)
