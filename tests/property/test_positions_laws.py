"""The algebra of positions against Python's sets; samples exact and uniform."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import laws, subsets
from torch import Tensor

from regrow.core import positions, rng

FAR = 10**6  # between neighbours, so that sets are far from crowded


def tensor(of: set[int], stride: int = 1) -> Tensor:
    return torch.tensor(sorted(of), dtype=torch.int32) * stride


@pytest.mark.parametrize("stride", [1, FAR])
@laws
@given(subsets)
def test_algebra(stride: int, drawn: tuple[int, set[int], set[int]]) -> None:
    _, one, other = drawn
    a, b = tensor(one, stride), tensor(other, stride)
    for operation, expected in (
        (positions.union, one | other),
        (positions.intersection, one & other),
        (positions.difference, one - other),
    ):
        result = operation(a, b)
        assert result.tolist() == tensor(expected, stride).tolist()
        assert result.dtype == a.dtype
    assert positions.contains(a, b).tolist() == [x in one for x in sorted(other)]


@laws
@given(subsets)
def test_absent_counts_the_complement(drawn: tuple[int, set[int], set[int]]) -> None:
    numel, members, _ = drawn
    complement = sorted(set(range(numel)) - members)
    assert positions.absent(tensor(members), torch.arange(len(complement))).tolist() == complement


@laws
@given(subsets, st.integers(0, 2**32), st.data())
def test_a_sample_is_exact_distinct_and_outside(
    drawn: tuple[int, set[int], set[int]], seed: int, data: st.DataObject
) -> None:
    numel, members, _ = drawn
    n = data.draw(st.integers(0, numel - len(members)))
    found = positions.sample_absent(tensor(members), numel, n, rng.generator(seed)).tolist()
    assert len(found) == n
    assert found == sorted(set(found))
    assert not set(found) & members
    assert all(0 <= position < numel for position in found)
    again = positions.sample_absent(tensor(members), numel, n, rng.generator(seed)).tolist()
    assert found == again


@pytest.mark.parametrize(("numel", "n"), [(6, 3), (10, 2), (9, 1)])  # by permutation, and by rejection
def test_every_subset_is_equally_likely(numel: int, n: int) -> None:
    draws = 6000
    counts = Counter(tuple(positions.sample(numel, n, rng.generator(i)).tolist()) for i in range(draws))
    subsets_ = list(combinations(range(numel), n))
    assert set(counts) == set(subsets_)
    expected = draws / len(subsets_)
    chi2 = sum((counts[s] - expected) ** 2 / expected for s in subsets_)
    freedom = len(subsets_) - 1
    assert chi2 < freedom + 4 * (2 * freedom) ** 0.5


def test_a_sample_of_a_space_that_no_tensor_could_hold() -> None:
    found = positions.sample(10**15, 1000, rng.generator("huge"))
    assert found.unique().numel() == 1000
    assert found.max() > 2**40
    grown = positions.sample_absent(found, 10**15, 1000, rng.generator("more"))
    assert positions.intersection(found, grown).numel() == 0


def test_too_many() -> None:
    with pytest.raises(ValueError, match="cannot sample 4 of 3"):
        positions.sample(3, 4, rng.generator(0))


def test_types() -> None:
    assert positions.dtype_for(2**31 - 1) == torch.int32
    assert positions.dtype_for(2**31 + 1) == torch.int64
