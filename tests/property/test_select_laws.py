"""select: exactly n, the highest, ties to the lower position, NaN below everything; against a stable sort."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import laws
from torch import Tensor

from regrow.core.select import select

finite = [-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0]
numbers = st.one_of(
    *(st.lists(st.sampled_from([*finite, math.inf, low]), max_size=40) for low in (math.nan, -math.inf))
)
"""Scores full of ties. A NaN and -inf together rank last in either order."""


def oracle(score: Tensor, n: int) -> list[int]:
    values = [-math.inf if math.isnan(v) else v for v in score.tolist()]
    return sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:n])


@laws
@given(numbers, st.data())
def test_equals_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(values)))
    score = torch.tensor(values)
    chosen = select(score, n)
    assert chosen.tolist() == oracle(score, n)
    assert chosen.dtype == torch.int64


@laws
@given(numbers.filter(len), st.data())
def test_among_some(values: list[float], data: st.DataObject) -> None:
    among = sorted(data.draw(st.sets(st.integers(0, len(values) - 1))))
    n = data.draw(st.integers(0, len(among)))
    score = torch.tensor(values)
    expected = [among[i] for i in oracle(score[among], n)]
    assert select(score, n, torch.tensor(among, dtype=torch.int32)).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int16])
def test_number_types(dtype: torch.dtype) -> None:
    score = (torch.randn(200) * 4).to(dtype)  # with many ties
    for n in (0, 1, 50, 150, 199, 200):
        assert select(score, n).tolist() == oracle(score.double(), n)


LARGE = 1 << 17
LARGE_SCORES = {
    "normal": lambda: torch.randn(LARGE),
    "few values": lambda: torch.randint(0, 5, (LARGE,)).float(),
    "all equal": lambda: torch.zeros(LARGE),
    "rising": lambda: torch.arange(LARGE).float(),
    "falling": lambda: -torch.arange(LARGE).float(),
    "periodic, as a regular sample would not see": lambda: (torch.arange(LARGE) % 8 == 1).float() * torch.rand(LARGE),
    "mostly zero": lambda: torch.randn(LARGE) * (torch.rand(LARGE) < 0.01),
    "with NaN": lambda: torch.randn(LARGE).masked_fill(torch.rand(LARGE) < 0.3, math.nan),
    "mostly NaN": lambda: torch.randn(LARGE).masked_fill(torch.rand(LARGE) < 0.99, math.nan),
    "all NaN": lambda: torch.full((LARGE,), math.nan),
    "with infinities": lambda: torch.randn(LARGE).masked_fill(torch.rand(LARGE) < 0.3, math.inf).neg(),
    "the active at -inf": lambda: torch.randn(LARGE).abs().masked_fill(torch.rand(LARGE) < 0.1, -math.inf),
}


@pytest.mark.parametrize("kind", LARGE_SCORES)
def test_large_tensors(kind: str) -> None:
    score = LARGE_SCORES[kind]()
    order = score.nan_to_num(-math.inf, math.inf, -math.inf).double().sort(descending=True, stable=True).indices
    for n in (0, 1, 100, LARGE // 20, LARGE // 2, LARGE - 100, LARGE - 1, LARGE):
        assert torch.equal(select(score, n), order[:n].sort().values), n


@pytest.mark.parametrize("n", [-1, 4])
def test_more_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match=f"cannot select {n} of 3"):
        select(torch.zeros(3), n)
