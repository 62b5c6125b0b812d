from __future__ import annotations

import pytest

from regrow import RegrowError
from regrow.core.distributions import ERK, Overrides, Uniform, counts

LAYERS = {"conv": (8, 4, 3, 3), "wide": (64, 32), "head": (10, 64)}  # 288, 2048, 640


def test_erk_by_hand() -> None:
    """Shares epsilon (sum of shape) at density .1: raw 18, 96, 74; budget 297.6."""
    shares = ERK()(LAYERS, 0.1)
    epsilon = 297.6 / (18 + 96 + 74)
    assert shares == pytest.approx(
        {"conv": epsilon * 18 / 288, "wide": epsilon * 96 / 2048, "head": epsilon * 74 / 640}
    )


def test_erk_overflows_into_the_others() -> None:
    """At .5: epsilon 7.91 puts head (.91) below 1; at .6 it would be 1.098, so head is dense and the others share."""
    shares = ERK()(LAYERS, 0.6)
    epsilon = (0.6 * 2976 - 640) / (18 + 96)
    assert shares == pytest.approx({"conv": epsilon * 18 / 288, "wide": epsilon * 96 / 2048, "head": 1.0})


def test_er_counts_channels_only() -> None:
    shares = ERK(kernel=False)({"conv": (8, 4, 3, 3), "wide": (64, 32)}, 0.1)
    assert shares["conv"] / shares["wide"] == pytest.approx((12 / 32) / (96 / 2048))


def test_uniform() -> None:
    assert Uniform()(LAYERS, 0.1) == dict.fromkeys(LAYERS, 0.1)
    assert Uniform(dense_first=True)(LAYERS, 0.1) == {"conv": 1.0, "wide": 0.1, "head": 0.1}
    floored = Uniform(classifier=0.2)(LAYERS, 0.1)
    assert floored["head"] == 0.2
    assert floored["conv"] == floored["wide"] == pytest.approx((297.6 - 128) / 2336)
    assert Uniform(classifier=0.2)(LAYERS, 0.3) == dict.fromkeys(LAYERS, 0.3)


def test_overrides_by_name_and_by_pattern() -> None:
    assert Overrides(Uniform(), {"head": 1.0})(LAYERS, 0.5)["wide"] == pytest.approx((1488 - 640) / 2336)
    shares = Overrides(Uniform(), {"*e*": 0.25})(LAYERS, 0.25)
    assert shares == pytest.approx(dict.fromkeys(LAYERS, 0.25))
    parts = {"in_proj[q]": (4, 4), "in_proj[k]": (4, 4)}  # the literal name of a part is no pattern
    assert Overrides(Uniform(), {"in_proj[q]": 0.5})(parts, 0.375) == {"in_proj[q]": 0.5, "in_proj[k]": 0.25}


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_overrides_are_densities(value: float) -> None:
    with pytest.raises(RegrowError, match=r"overrides: density \S+ of 'head' is outside \(0, 1\]"):
        Overrides(Uniform(), {"head": value})(LAYERS, 0.5)


def test_counts_give_the_remainder_to_the_largest_parts() -> None:
    assert counts({"a": (1, 10), "b": (1, 10), "c": (1, 10)}, {"a": 0.33, "b": 0.35, "c": 0.32}) == {
        "a": 3,
        "b": 4,
        "c": 3,
    }
    assert counts({"a": (1, 10), "b": (1, 10)}, {"a": 0.25, "b": 0.25}) == {"a": 3, "b": 2}  # ties in order


@pytest.mark.parametrize("share", [0.0, 0.01, 1.2, -0.5])
def test_no_layer_is_left_empty_or_overfull(share: float) -> None:
    with pytest.raises(RegrowError, match=r"layer 'a' \(1, 10\) with .* of its 10 weights; raise the density"):
        counts({"a": (1, 10)}, {"a": share})
