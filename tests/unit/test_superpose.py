"""Tickets into one: by hand, exactly, and on tickets of both backends."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import regrow
from regrow import RegrowError
from regrow.core.topology import Topology
from regrow.tickets import Ticket
from regrow.tickets.basin import GreedySoup, Guarded, barrier, between
from regrow.tickets.moving import RunningAverage
from regrow.tickets.superpose import CAA, CIA, CIMA, PruneBack, Superposition, reestimate, superpose

ALL: list[Callable[[], Superposition]] = [
    CIA,
    CAA,
    CIMA,
    lambda: CIA(each=True),
    RunningAverage,
    lambda: RunningAverage(0.9),
]


def row(*values: float | None, bias: float = 0.0) -> Ticket:
    """A ticket of one site of 1 x n; None where no weight exists."""
    mask = torch.tensor([[value is not None for value in values]])
    state = {
        "w": torch.tensor([value for value in values if value is not None], dtype=torch.float32),
        "b": torch.tensor([bias], dtype=torch.float32),
        "n": torch.tensor(int(bias)),
    }
    return Ticket(state, Topology.from_masks({"w": mask}))


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 24), nn.Linear(24, 3)
    )


def trained(seed: int, backend: str = "masked", **setup: object) -> tuple[nn.Module, Ticket]:
    torch.manual_seed(seed)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = regrow.sparsify(
        model, optimizer, method="set", density=0.3, total_steps=8, every=2, seed=seed, backend=backend, exclude=["0"]
    )
    for _ in range(8):
        nn.functional.cross_entropy(model(torch.randn(16, 1, 6, 6)), torch.randint(3, (16,))).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, Ticket.of(model, sparsifier)


@pytest.fixture(scope="module")
def tickets() -> list[Ticket]:
    return [trained(seed)[1] for seed in range(4)]


def dense(ticket: Ticket) -> list[float]:
    values: list[float] = ticket.dense("w").flatten().tolist()
    return values


def same(one: Ticket, other: Ticket) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return one.topology == other.topology and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_equal_tickets_are_themselves(make: Callable[[], Superposition], backend: str) -> None:
    ticket = trained(3, backend)[1]
    for times in (1, 3, 7):
        assert same(superpose([ticket] * times, make()), ticket)


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_the_live_model_is_not_touched_and_the_average_fits_it(backend: str) -> None:
    model, ticket = trained(1, backend)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    average = superpose([ticket, trained(2)[1]], CIA())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    plain = average.apply(net())
    assert plain[4].weight.count_nonzero() + plain[5].weight.count_nonzero() == average.topology.nnz


@pytest.mark.parametrize("m", [3, 4])
def test_the_mean_of_m_tickets_has_weights_1_over_m(tickets: list[Ticket], m: int) -> None:
    ours = superpose(tickets[:m], CIA(prune=None)).state_dict()
    for key, value in ours.items():
        every = torch.stack([ticket.state_dict()[key] for ticket in tickets[:m]])
        expected = every.double().mean(0).float() if value.is_floating_point() else every[-1]
        assert torch.equal(value, expected), key


def test_by_hand() -> None:
    tickets = [row(3, None, 6, None, bias=2), row(1, 2, None, None, bias=4)]
    assert dense(superpose(tickets, CIA(None))) == [2, 1, 3, 0]
    assert dense(superpose(tickets, CIA())) == [2, 0, 3, 0]
    assert dense(superpose(tickets, CAA(None))) == [2, 2, 6, 0]
    assert dense(superpose(tickets, CAA())) == [2, 0, 6, 0]  # 2 and 2 tie: the lower index stays
    assert dense(superpose(tickets, CIMA(0.75, None))) == [2.5, 0.5, 4.5, 0]
    average = superpose(tickets, CIA())
    assert average.state["b"] == 3
    assert average.state["n"] == 4  # a counter is the last ticket's
    assert average.meta == {"superposed": "cia", "tickets": "2"}


def test_pruning_at_each_merge_forgets() -> None:
    tickets = [row(4, 2, None), row(None, 2, 6), row(4, 2, None)]
    assert dense(superpose(tickets, CIA(None))) == pytest.approx([8 / 3, 2, 2])
    assert dense(superpose(tickets, CIA())) == pytest.approx([8 / 3, 2, 0])
    assert dense(superpose(tickets, CIA(each=True))) == pytest.approx(
        [8 / 3, 0, 2]
    )  # the 2 of the second was forgotten


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("density", [None, 0.05, 0.2, 0.3])
def test_prune_back_is_exact(tickets: list[Ticket], scope: str, density: float | None) -> None:
    union = superpose(tickets, CIA(None))
    pruned = superpose(tickets, CIA(PruneBack(scope, density)))  # type: ignore[arg-type]
    like = tickets[-1].topology
    asked = {name: like.nnz_of(name) if density is None else round(density * like.numel_of(name)) for name in like}
    if scope == "layer":
        assert {name: pruned.topology.nnz_of(name) for name in like} == asked
    else:
        assert pruned.topology.nnz == (like.nnz if density is None else round(density * like.numel))
    smallest = min(float(pruned.state[name].abs().min()) for name in like) if scope == "global" else 0.0
    for name in like:
        full, left = union.dense(name), pruned.dense(name)
        assert torch.equal(left[pruned.topology[name]], full[pruned.topology[name]])
        gone = (full * ~pruned.topology[name]).abs().max()
        assert gone <= (smallest if scope == "global" else left[pruned.topology[name]].abs().min())


def test_prune_back_to_more_than_there_is_is_refused(tickets: list[Ticket]) -> None:
    with pytest.raises(RegrowError, match="ask for a lower density"):
        superpose(tickets[:1], CIA(PruneBack(density=0.9)))


@pytest.mark.parametrize("into", ALL)
def test_tickets_of_different_models_are_refused(into: Callable[[], Superposition]) -> None:
    with pytest.raises(RegrowError, match="they differ in 'w'"):
        superpose([row(1, 2), row(1, 2, 3)], into())
    with pytest.raises(RegrowError, match="no ticket has been added"):
        into().result()


def test_running_averages_follow_the_topology() -> None:
    tickets = [row(4, None, 2), row(8, 6, None), row(6, 8, None), row(None, 4, 6)]
    ema, swa = RunningAverage(0.5), RunningAverage()
    expected = [([4, 0, 2], [4, 0, 2]), ([6, 6, 0], [6, 6, 0]), ([6, 7, 0], [6, 7, 0]), ([0, 5.5, 6], [0, 6, 6])]
    for ticket, (by_decay, by_age) in zip(tickets, expected, strict=True):
        ema.add(ticket)
        swa.add(ticket)
        assert dense(ema.result()) == by_decay
        assert dense(swa.result()) == pytest.approx(by_age)
        assert ema.result().topology == ticket.topology


def test_statistics_are_those_of_torchs_update_bn(tickets: list[Ticket]) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(16, 1, 6, 6), torch.zeros(16)) for _ in range(3)]
    average = superpose(tickets, CIA())
    ours = reestimate(average, net(), batches)
    assert ours.topology == average.topology
    inputs = torch.cat(
        [nn.functional.conv2d(x, average.state["0.weight"], average.state["0.bias"]) for x, _ in batches]
    )
    assert torch.allclose(ours.state["1.running_mean"], inputs.mean((0, 2, 3)), atol=1e-5)
    assert ours.state["1.num_batches_tracked"] == 3
    assert not torch.equal(ours.state["1.running_mean"], average.state["1.running_mean"])
    untouched = [key for key in ours.state if not key.startswith("1.")]
    assert all(torch.equal(ours.state[key], average.state[key]) for key in untouched)


def valley(ticket: Ticket) -> float:
    """A loss with basins at w = -1 and w = 1."""
    w: Tensor = ticket.dense("w")
    return float(((w**2 - 1) ** 2).sum())


def test_the_barrier_is_shown_and_refused() -> None:
    left, right, near = row(-1.0, None), row(1.0, None), row(-0.9, None)
    assert dense(between(left, right, 0.25)) == [-0.5, 0]
    wall = barrier(left, right, valley)
    assert wall.height == pytest.approx(valley(row(0.0, None)) - valley(left))
    assert barrier(left, near, valley).height < 0.02
    guarded = Guarded(CIA(), valley, limit=0.1)
    guarded.add(left)
    guarded.add(near)
    with pytest.raises(RegrowError, match=r"another basin than ticket 0: .* rises by 1, 0.1 is let pass \(.* at 0.5,"):
        guarded.add(right)
    assert dense(guarded.result()) == pytest.approx([-0.95, 0])
    with pytest.raises(RegrowError, match="at least 3"):
        barrier(left, right, valley, points=2)


def test_a_greedy_soup_takes_what_does_no_harm() -> None:
    def score(ticket: Ticket) -> float:
        return -abs(float(ticket.dense("w")[0, 0]) - 2.0)

    soup = GreedySoup(score)
    average = superpose([row(9.0), row(1.0), row(2.5)], soup)
    assert dense(average) == pytest.approx([1.75])  # 2.5, then 1.0 joins, 9 does not
    assert soup.joined == [False, True, True]
    assert (average.meta["superposed"], average.meta["tickets"]) == ("greedy cia", "2")
    assert dense(superpose([row(9.0), row(5.0)], GreedySoup(score))) == pytest.approx([5.0])
    assert dense(superpose([row(9.0), row(5.0)], GreedySoup(lambda ticket: math.nan))) == pytest.approx([9.0])
