"""The published running mean of Sup-tickets, merge by merge, and its prune-back."""

from __future__ import annotations

import pytest
import torch
from replay import Golden
from torch import Tensor

from regrow.core.topology import Topology
from regrow.tickets import Ticket
from regrow.tickets.superpose import CIA, CIMA, superpose

GOLDEN = Golden("sup_average")
SITES = ("conv1.weight", "conv2.weight", "fc.weight")
NAMES = sorted(key.removeprefix("pre/") for key in GOLDEN.arrays if key.startswith("pre/"))


def ticket(prefix: str) -> Ticket:
    state = {name: GOLDEN[f"{prefix}/{name}"] for name in NAMES}
    topology = Topology.of(state, SITES)
    values = {name: state[name].reshape(-1)[topology.index(name).long()] for name in SITES}
    return Ticket(state | values, topology)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_merges_from_the_network_before_the_cycles() -> None:
    """As published: the mean of M + 1 networks, pruned after each merge."""
    published = CIA(each=True)
    published.add(ticket("pre"))
    for merge in (1, 2, 3):
        published.add(ticket(f"ticket{merge}"))
        ours = published.result()
        dense = ours.state_dict()
        assert ours.topology.nnz == GOLDEN[f"merge{merge}/n_kept"]
        for name in NAMES:
            mean = GOLDEN[f"merge{merge}/mean/{name}"]
            if name in SITES:
                mask = GOLDEN[f"merge{merge}/mask/{name}"]
                assert torch.equal(ours.topology[name], mask)
                mean = mean * mask
            if "num_batches" not in name:  # theirs averages and truncates the counter, ours is the last ticket's
                assert close(dense[name], mean), name


def test_equation_4_averages_the_tickets_alone() -> None:
    ours = superpose((ticket(f"ticket{t}") for t in (1, 2, 3)), CIA(prune=None)).state_dict()
    assert all(close(ours[name], GOLDEN[f"paper_mean_no_prune/{name}"]) for name in SITES)


@pytest.mark.parametrize("beta", [0.2, 0.5, 0.8])
def test_the_published_moving_average_weighs_the_new_ticket(beta: float) -> None:
    ours = superpose((ticket(f"ticket{t}") for t in (1, 2, 3)), CIMA(1 - beta, prune=None)).state_dict()
    assert all(close(ours[name], GOLDEN[f"cima_new_weight{beta}/{name}"]) for name in SITES[:2])
