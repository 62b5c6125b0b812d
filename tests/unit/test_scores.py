from __future__ import annotations

import pytest
import torch

from regrow.core import rng, scores
from regrow.core.scores import Score, needs_of
from regrow.core.site import Site


def site(weight: list[float], **signals: list[float]) -> Site:
    index = torch.arange(len(weight), dtype=torch.int32)
    values = {name: torch.tensor(v) for name, v in signals.items()}
    return Site("w", (len(weight),), index, torch.tensor(weight), len(weight), rng.generator(1), **values)


@pytest.mark.parametrize(
    ("score", "expected", "needs"),
    [
        (scores.magnitude, [2.0, 1.0, 3.0], set()),
        (scores.gradient, [4.0, 6.0, 0.0], {"grad"}),
        (scores.momentum, [0.5, 2.0, 1.0], {"moment"}),
        (scores.taylor, [8.0, 6.0, 0.0], {"grad"}),
    ],
)
def test_by_hand(score: Score, expected: list[float], needs: set[str]) -> None:
    assert score(site([-2.0, 1.0, 3.0], grad=[4.0, -6.0, 0.0], moment=[0.5, -2.0, 1.0])).tolist() == expected
    assert needs_of(score) == needs


def test_signed_takes_the_same_share_of_each_side() -> None:
    """Positive .1 .4 .2 rank 1 3 2 of 3; negative -.3 -.1 rank 2 1 of 2."""
    ranks = scores.signed(site([0.1, 0.4, -0.3, 0.2, -0.1]))
    assert ranks.tolist() == pytest.approx([1 / 3, 1.0, 1.0, 2 / 3, 0.5])
    assert scores.signed(site([1.0, 2.0])).tolist() == [0.5, 1.0]


def test_signed_counts_beyond_half_precision() -> None:
    whole = site([float(i + 1) for i in range(3000)])
    half = Site("w", (3000,), whole.index, whole.weight.bfloat16(), 3000)
    assert scores.signed(half).unique().numel() == 3000


def test_signed_gives_a_rank_to_what_is_no_number() -> None:
    assert scores.signed(site([0.1, float("nan"), -0.3])).tolist() == [0.5, 1.0, 1.0]


def test_random_is_the_generators() -> None:
    first, second = (scores.random(site([1.0] * 100)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.unique().numel() > 90
