from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from regrow.core import growth, rng, scores
from regrow.core.patterns import Candidates, Unstructured
from regrow.core.site import Site


def site(**changes: object) -> Site:
    """Ten places, of which 1, 4, 6 and 9 are active."""
    given = {
        "name": "w",
        "shape": (2, 5),
        "index": torch.tensor([1, 4, 6, 9], dtype=torch.int32),
        "weight": torch.tensor([0.5, -0.1, 0.3, -0.2]),
        "target": 4,
        "generator": rng.generator(0, 3, "w"),
    }
    return Site(**{**given, **changes})  # type: ignore[arg-type]


def first(site: Site, n: int) -> Tensor:
    """Grows the lowest inactive positions."""
    inactive = [p for p in range(site.numel) if p not in site.index.tolist()]
    return torch.tensor(inactive[:n])


def test_replace() -> None:
    new = site().replace(site().weight.abs(), 2, first)
    assert new.tolist() == [0, 1, 2, 6]
    assert new.dtype == torch.int32


def test_replace_with_more_or_fewer_births() -> None:
    assert site().replace(site().weight.abs(), 2, first, births=4).numel() == 6
    assert site().replace(site().weight.abs(), 3, first, births=0).tolist() == [1]
    assert site().replace(site().weight.abs(), 0, first).tolist() == [1, 4, 6, 9]
    assert site().replace(site().weight.abs(), 4, first).tolist() == [0, 1, 2, 3]


def test_of_equal_scores_the_higher_positions_go() -> None:
    assert site().replace(torch.zeros(4), 2, first).tolist() == [0, 1, 2, 4]


def test_the_grower_sees_a_consistent_site_without_what_was_dropped() -> None:
    seen: list[Site] = []

    def spy(left: Site, n: int) -> Tensor:
        seen.append(left)
        return first(left, n)

    whole = site(grad=torch.tensor([1.0, 2.0, 3.0, 4.0]), moment=torch.tensor([5.0, 6.0, 7.0, 8.0]))
    whole.replace(whole.weight.abs(), 2, spy)
    (left,) = seen
    assert left.index.tolist() == [1, 6]
    assert left.weight.tolist() == pytest.approx([0.5, 0.3])
    assert left.signal("grad").tolist() == [1.0, 3.0]
    assert left.signal("moment").tolist() == [5.0, 7.0]


def test_a_kept_site_is_a_site_like_any_other() -> None:
    whole = site(grad=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    left = whole.keep(torch.tensor([True, False, True, False]), 2)
    assert left.index is left.index  # taken once
    assert (left.nnz, left.numel, left.moment, left.candidates) == (2, 10, None, None)
    again = dataclasses.replace(left, name="v").keep(torch.tensor([False, True]), 1)
    assert (again.name, again.index.tolist(), again.weight.tolist()) == ("v", [6], [pytest.approx(0.3)])
    assert again.signal("grad").tolist() == [3.0]
    with pytest.raises(AttributeError, match="'Site' object has no attribute 'nonsense'"):
        left.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_gradient_growth_weighs_the_dropped_against_the_candidates() -> None:
    """4 and 9 are dropped (smallest); the best of the rest are 9 again (|-7|) and 3 (|5|)."""
    whole = site(
        grad=torch.tensor([9.0, 1.0, 9.0, -7.0]),
        candidates=Candidates(torch.tensor([0, 3, 8]), torch.tensor([2.0, 5.0, 3.0])),
    )
    assert whole.replace(whole.weight.abs(), 2, growth.gradient).tolist() == [1, 3, 6, 9]


def test_momentum_growth_ranks_the_dropped_by_momentum() -> None:
    whole = site(
        moment=torch.tensor([0.0, 4.0, 0.0, 1.0]),
        candidates=Candidates(torch.tensor([0, 3]), torch.tensor([2.0, 3.0])),
        ranked_by="moment",
    )
    assert whole.replace(whole.weight.abs(), 2, growth.momentum).tolist() == [1, 3, 4, 6]


def test_candidates_are_never_active() -> None:
    """Even where the signal is NaN, and there are fewer numbers than candidates wanted."""
    signal = torch.full((10,), torch.nan)
    signal[0] = 1.0
    found = Unstructured().collect(signal, site().index, 6)
    assert found.position.tolist() == [0, 2, 3, 5, 7, 8]
    assert found.score.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert Unstructured().collect(signal, site().index, 99).position.numel() == 6


def test_a_signal_that_was_not_asked_for() -> None:
    with pytest.raises(ValueError, match="'w' has no 'grad': the method must name it in `needs`"):
        scores.gradient(site())


def test_numbers() -> None:
    assert (site().nnz, site().numel) == (4, 10)
