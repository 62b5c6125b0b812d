from __future__ import annotations

import pytest
import torch

from regrow.core import growth, rng
from regrow.core.patterns import Candidates
from regrow.core.scores import needs_of
from regrow.core.site import Site


def site(seed: int = 0, **changes: object) -> Site:
    index = torch.tensor([1, 4, 6, 9], dtype=torch.int32)
    return Site("w", (2, 6), index, torch.ones(4), 4, rng.generator(seed), **changes)  # type: ignore[arg-type]


INACTIVE = {0, 2, 3, 5, 7, 8, 10, 11}


@pytest.mark.parametrize("n", range(9))
def test_random_is_exact_and_inactive(n: int) -> None:
    grown = growth.random(site(), n).tolist()
    assert len(set(grown)) == n
    assert set(grown) <= INACTIVE
    assert grown == sorted(grown)


def test_random_reaches_everything() -> None:
    assert {p for seed in range(60) for p in growth.random(site(seed), 2).tolist()} == INACTIVE


def test_unexplored_first() -> None:
    explored = torch.tensor([0, 1, 2, 3, 4, 6, 9], dtype=torch.int32)
    assert set(growth.unexplored(site(explored=explored), 3).tolist()) <= {5, 7, 8, 10, 11}
    assert growth.unexplored(site(explored=explored), 5).tolist() == [5, 7, 8, 10, 11]


def test_then_the_rest_at_random() -> None:
    explored = torch.tensor([0, 1, 2, 3, 4, 6, 9], dtype=torch.int32)
    for seed in range(20):
        grown = growth.unexplored(site(seed, explored=explored), 7).tolist()
        assert len(set(grown)) == 7
        assert {5, 7, 8, 10, 11} <= set(grown) <= INACTIVE
    everything = torch.arange(12, dtype=torch.int32)
    assert set(growth.unexplored(site(explored=everything), 8).tolist()) == INACTIVE


@pytest.mark.parametrize("rule", [growth.gradient, growth.momentum])
def test_the_best_candidates(rule: growth.Grow) -> None:
    candidates = Candidates(torch.tensor([0, 3, 8, 11]), torch.tensor([2.0, 5.0, 5.0, 1.0]))
    assert rule(site(candidates=candidates), 2).tolist() == [3, 8]
    assert rule(site(candidates=candidates), 1).tolist() == [3]


def test_what_each_rule_reads() -> None:
    assert {name: set(needs_of(rule)) for name, rule in growth.GROWTHS.items()} == {
        "random": set(),
        "unexplored": {"explored"},
        "gradient": {"dense_grad"},
        "momentum": {"dense_moment"},
    }
