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
    best = Candidates(torch.tensor([0, 3, 8], dtype=torch.int32), torch.tensor([2.0, 5.0, 3.0]))
    whole = site(candidates=best.with_active(site().index, torch.tensor([9.0, 1.0, 9.0, -7.0]), 3))
    for rule in (growth.gradient, growth.momentum):
        assert whole.replace(whole.weight.abs(), 2, rule).tolist() == [1, 3, 6, 9]


def test_what_was_pruned_before_a_drop_may_grow_too() -> None:
    """4 is pruned, then 9 dropped: both have a larger gradient than any candidate."""
    best = Candidates(torch.tensor([0, 3], dtype=torch.int32), torch.tensor([2.0, 5.0]))
    whole = site(candidates=best.with_active(site().index, torch.tensor([0.0, 7.0, 0.0, 6.0]), 2))
    pruned = whole.keep(torch.tensor([True, False, True, True]), 3)
    assert pruned.replace(pruned.weight.abs(), 1, growth.gradient, births=2).tolist() == [1, 4, 6, 9]


def test_active_positions_among_the_candidates_are_those_that_would_be_were_they_dropped() -> None:
    """As low as the worst of k is still among them: ties go to the lower position."""
    position, signal = torch.tensor([0, 3, 8], dtype=torch.int32), torch.tensor([-3.0, 2.0, 1.9, torch.nan])
    best = Candidates(position, torch.tensor([2.0, 5.0, 3.0]))
    joined = best.with_active(site().index, signal, 3)
    assert joined.position.tolist() == [0, 1, 3, 4, 8, 9]
    assert joined.score.tolist() == [2.0, 3.0, 5.0, 2.0, 3.0, 0.0]
    few = best.with_active(site().index, signal, 4)  # there are no more: all may grow again
    assert few.position.tolist() == [0, 1, 3, 4, 6, 8, 9]
    assert best.with_active(site().index, signal, 0) is best


def test_which_positions_a_site_holds() -> None:
    left, places = site().keep(torch.tensor([False, True, True, False]), 2), torch.tensor([0, 1, 4, 6, 7, 9])
    assert site().holds(places).tolist() == [False, True, True, True, False, True]
    assert left.holds(places).tolist() == [False, False, True, True, False, False]


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
