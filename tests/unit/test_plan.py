"""Plans against the tables of the papers, event by event."""

from __future__ import annotations

import pytest
import torch

from regrow import Every, RegrowError
from regrow.core.schedules import Constant, Cosine, Part, Stages
from regrow.sparsifier.timetable import Timetable
from regrow.tickets.plan import (
    Phase,
    Plan,
    PlanLR,
    capture_steps,
    edst,
    fge,
    itop,
    learning_rate,
    snapshot,
    sup_tickets,
    swa,
    ticket_at,
    total_steps,
)


def changes(plan: Plan, base: float = 0.1) -> dict[int, float]:
    """Steps done -> the learning rate from there on, where it changes."""
    rate = learning_rate(plan)
    found: dict[int, float] = {}
    for step in range(total_steps(plan)):
        lr = round(base * rate(step), 12)
        if not found or lr != found[max(found)]:
            found[step] = lr
    return found


def escapes(plan: Plan) -> dict[int, float]:
    starts = [total_steps(plan[:at]) for at in range(len(plan))]
    return {start: phase.explore for start, phase in zip(starts, plan, strict=True) if phase.explore}


@pytest.mark.parametrize(("tickets", "epochs"), [(1, 250), (3, 450), (7, 850)])
def test_edst_on_cifar(tickets: int, epochs: int) -> None:
    plan = edst(150, 100, tickets)
    assert total_steps(plan) == epochs
    windows = range(150, epochs, 100)
    rates = {0: 0.1} | dict.fromkeys(windows, 0.01) | {epoch + 50: 0.001 for epoch in windows}
    assert changes(plan) == dict(sorted(rates.items()))
    assert escapes(plan) == dict.fromkeys(windows[1:], 0.8)
    assert capture_steps(plan) == tuple(epoch + 100 for epoch in windows)
    assert all(phase.evolve for phase in plan)


def test_edst_on_imagenet() -> None:
    plan = edst(30, (30, 30, 10), 4, fraction=Cosine(0.5, 0.005))
    assert total_steps(plan) == 310
    assert total_steps(edst(30, (30, 30, 10), 2)) == 170
    of = {0.01: (30, 100, 170, 240), 0.001: (60, 130, 200, 270), 0.0001: (90, 160, 230, 300)}
    assert changes(plan) == dict(sorted({0: 0.1, **{at: rate for rate, many in of.items() for at in many}}.items()))
    assert escapes(plan) == {100: 0.8, 170: 0.8, 240: 0.8}
    assert capture_steps(plan) == (100, 170, 240, 310)


def test_the_drop_fraction_restarts_at_each_escape() -> None:
    """ImageNet: a cosine of .5 over 100 epochs, then over 70 after each escape."""
    plan = edst(30, (30, 30, 10), 2, fraction=Cosine(0.5, 0.005))
    timetable = Timetable(plan)
    for done in range(1, 171):
        phase, step = timetable.at(done)
        assert phase.fraction is not None
        expected = Cosine(0.5, 0.005)(done / 100 if done <= 100 else (done - 100) / 70)
        assert phase.fraction(step / phase.steps) == pytest.approx(expected, abs=1e-12)


def test_sup_tickets_on_cifar() -> None:
    """.1 with drops at 1/2 and 3/4 of 226; then 3 cycles of 8, .001 to .005 and back, each exploring at its start."""
    plan = sup_tickets(226, 8, 3, lr=Stages((1.0, 0.1, 0.01), (0.5, 0.75)))
    assert total_steps(plan) == 250
    assert [epoch for epoch in changes(plan) if epoch < 226] == [0, 113, 170]  # 169.5
    rate = learning_rate(plan)
    assert [0.1 * rate(epoch) for epoch in (226, 228, 230, 232, 234, 238, 242)] == pytest.approx(
        [0.001, 0.003, 0.005, 0.003, 0.001, 0.005, 0.001]
    )
    assert escapes(plan) == {226: 0.5, 234: 0.5, 242: 0.5}
    assert capture_steps(plan) == (234, 242, 250)
    assert [phase.evolve for phase in plan] == [True, False, False, False]
    assert capture_steps(sup_tickets(226, 8, 3, include_pretrained=True)) == (226, 234, 242, 250)
    assert not any(phase.evolve for phase in sup_tickets(226, 8, 3, evolve=False))


def test_snapshots_restart_a_cosine() -> None:
    plan = snapshot(10, 3)
    rate = learning_rate(plan)
    assert [rate(step) for step in (0, 10, 20)] == [1.0, 1.0, 1.0]
    assert rate(5) == pytest.approx(0.5)
    assert capture_steps(plan) == (10, 20, 30)
    assert escapes(plan) == {}
    assert escapes(snapshot(10, 3, explore=0.3)) == {10: 0.3, 20: 0.3}


def test_fge_and_swa_go_on_after_training() -> None:
    assert [learning_rate(fge(80, 10, 2, low=0.01, high=0.5))(step) for step in (79, 80, 85, 90)] == [
        1,
        0.01,
        0.5,
        0.01,
    ]
    assert [learning_rate(swa(80, 10, 2, rate=0.5))(step) for step in (79, 80, 85, 99)] == [1, 0.5, 0.5, 0.5]
    for plan in (fge(80, 10, 2, low=0.01, high=0.5), swa(80, 10, 2)):
        assert capture_steps(plan) == (90, 100)
        assert escapes(plan) == {}


def test_itop_is_one_phase() -> None:
    assert itop(100) == (Phase(100, capture=True),)
    assert [ticket_at(itop(100), step) for step in (0, 1, 100, 101)] == [0, 0, 0, None]


def test_which_ticket_a_step_is_for() -> None:
    plan = edst(10, 6, 2)
    assert [ticket_at(plan, step) for step in (1, 10, 11, 16, 17, 22, 23)] == [None, None, 0, 0, 1, 1, None]


@pytest.mark.parametrize("make", [lambda n: edst(10, 6, n), lambda n: sup_tickets(10, 6, n), lambda n: snapshot(6, n)])
def test_no_phase_depends_on_how_many_follow(make: object) -> None:
    assert callable(make)
    for n in (1, 2, 5):
        assert make(n + 1)[: len(make(n))] == make(n)


def test_a_torch_scheduler_follows_it() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    plan = edst(2, 2, 2)
    scheduler = PlanLR(optimizer, plan)
    seen = []
    for _ in range(total_steps(plan)):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.01, 0.001])
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)


def test_updates_are_counted_phase_by_phase() -> None:
    every = Every(4)
    assert Timetable(edst(10, 6, 3)).updates(every) == 2 + 1 + 1 + 1 + 2  # and two escapes
    assert Timetable(sup_tickets(10, 6, 3)).updates(every) == 2 + 3
    assert Timetable([Phase(10, evolve=False)]).updates(every) == 0


def test_schedules_in_pieces() -> None:
    stages = Stages((3.0, 2.0, 1.0), (0.25, 0.5))
    assert [stages(t) for t in (0.0, 0.2, 0.25, 0.4, 0.5, 1.0)] == [3, 3, 2, 2, 1, 1]
    assert Part(Cosine(1.0), 0.5, 1.0)(0.0) == pytest.approx(0.5)
    with pytest.raises(RegrowError, match="n values need n - 1 moments"):
        Stages((1.0, 2.0), (0.5, 0.75))
    with pytest.raises(RegrowError, match="ascending in"):
        Stages((1.0, 2.0, 3.0), (0.75, 0.5))


@pytest.mark.parametrize(
    "faulty", [lambda: Phase(0), lambda: Phase(5, explore=1.5), lambda: Phase(5, Constant(1), explore=-1)]
)
def test_impossible_phases_are_refused(faulty: object) -> None:
    assert callable(faulty)
    with pytest.raises(RegrowError, match="at least 1 step and explores a share in"):
        faulty()
    with pytest.raises(RegrowError, match="at least one ticket, not 0"):
        edst(10, 6, 0)
