from __future__ import annotations

import pytest
import torch

from regrow.core.select import select

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("score", "n", "chosen"),
    [
        ([3.0, 1.0, 2.0], 2, [0, 2]),
        ([1.0, 1.0, 1.0, 1.0], 2, [0, 1]),  # ties to the lower position
        ([0.0, 2.0, 1.0, 1.0, 1.0], 3, [1, 2, 3]),
        ([5.0], 1, [0]),
        ([5.0, 6.0], 0, []),
        ([], 0, []),
        ([NAN, 1.0, NAN, 0.0], 2, [1, 3]),
        ([NAN, 1.0, NAN, 0.0], 3, [0, 1, 3]),
        ([INF, INF, -INF, 0.0], 3, [0, 1, 3]),
        ([-0.0, 0.0, -0.0], 2, [0, 1]),
    ],
)
def test_by_hand(score: list[float], n: int, chosen: list[int]) -> None:
    assert select(torch.tensor(score), n).tolist() == chosen


def test_among() -> None:
    score = torch.tensor([9.0, 1.0, 8.0, 2.0, 7.0])
    assert select(score, 2, torch.tensor([1, 3, 4])).tolist() == [3, 4]


def test_the_input_is_left_alone() -> None:
    score = torch.tensor([NAN, 1.0, 0.0])
    select(score, 2)
    assert score[0].isnan()
