"""The learning rates and events of the published EDST, Sup-tickets and their plans here."""

from __future__ import annotations

import pytest
from replay import Golden

from regrow.tickets.plan import capture_steps, edst, learning_rate, sup_epochs, sup_tickets, total_steps

GOLDEN = Golden("schedules")


@pytest.mark.parametrize(
    ("cycle", "low", "high", "batches"), [(8, 1e-3, 5e-3, 10), (2, 1e-4, 5e-4, 7), (3, 1e-3, 5e-3, 5)]
)
def test_triangle(cycle: int, low: float, high: float, batches: int) -> None:
    theirs = GOLDEN[f"cyclic_C{cycle}_{low}_{high}_it{batches}/lr"]
    plan = sup_tickets(1, cycle * batches, len(theirs) // cycle, low=low, high=high)
    ours = learning_rate(plan)
    assert total_steps(plan) == 1 + theirs.numel()
    assert [ours(1 + step) for step in range(theirs.numel())] == pytest.approx(theirs.flatten().tolist(), abs=1e-15)


def test_epochs_of_sup_tickets() -> None:
    table = GOLDEN["sup_epochs/epochs_rate_cycle_pretrain_cyclic_tickets"].tolist()
    assert len(table) == 10
    for epochs, share, cycle, training, cyclic, tickets in table:
        assert sup_epochs(int(epochs), share, int(cycle)) == (training, tickets)
        assert training + cyclic == epochs


@pytest.mark.parametrize(
    ("name", "explore", "tickets"), [("T450_ex150", 150, 3), ("T850_ex150", 150, 7), ("T250_ex50", 50, 2)]
)
def test_edst_by_epoch(name: str, explore: int, tickets: int) -> None:
    """One step an epoch: their rate of every epoch, their escapes, the last epoch a ticket can come from."""
    golden = f"edst_{name}_M{tickets}"
    plan = edst(explore, 100, tickets)
    rate = learning_rate(plan)
    for epoch, theirs in GOLDEN[f"{golden}/lr_by_epoch"].tolist():
        assert 0.1 * rate(int(epoch) - 1) == pytest.approx(theirs, rel=1e-12)
    assert total_steps(plan) == len(GOLDEN[f"{golden}/lr_by_epoch"])
    starts = [total_steps(plan[:at]) for at in range(len(plan))]
    escapes = [[start, phase.explore] for start, phase in zip(starts, plan, strict=True) if phase.explore]
    assert escapes == GOLDEN[f"{golden}/escape_epoch_rate"].tolist()
    taken = [[number, step] for number, step in enumerate(capture_steps(plan))]
    assert taken == GOLDEN[f"{golden}/last_save_per_ticket_monotone_acc"].tolist()
