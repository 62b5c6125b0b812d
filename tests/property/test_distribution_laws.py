"""Distributions keep the budget, never pass 1, and do not care for the order of layers; counts are exact."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from laws import laws, shapes

from regrow import DISTRIBUTIONS, RegrowError
from regrow.core.distributions import Overrides, Shapes, Uniform, counts

densities = st.floats(0.001, 1.0)


def kept(sizes: Shapes, shares: dict[str, float]) -> float:
    return sum(shares[name] * prod(shape) for name, shape in sizes.items())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@laws
@given(shapes, densities)
@example({"a": (3, 3), "b": (3, 3)}, 1.0)
def test_the_budget_is_kept_and_no_layer_passes_one(name: str, sizes: Shapes, density: float) -> None:
    shares = DISTRIBUTIONS[name]()(sizes, density)
    assert list(shares) == list(sizes)
    assert all(0.0 < share <= 1.0 for share in shares.values())
    total = sum(map(prod, sizes.values()))
    assert kept(sizes, shares) == pytest.approx(density * total, rel=1e-9)


@pytest.mark.parametrize("name", ["er", "erk"])
@laws
@given(shapes, densities, st.randoms(use_true_random=False))
def test_the_order_of_layers_does_not_matter(name: str, sizes: Shapes, density: float, random: object) -> None:
    shuffled = list(sizes.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    shares = DISTRIBUTIONS[name]()(sizes, density)
    assert DISTRIBUTIONS[name]()(dict(shuffled), density) == pytest.approx(shares, rel=1e-9)


@laws
@given(shapes, densities)
def test_er_and_erk_agree_on_matrices(sizes: Shapes, density: float) -> None:
    matrices = {name: shape[:2] for name, shape in sizes.items()}
    assert DISTRIBUTIONS["er"]()(matrices, density) == DISTRIBUTIONS["erk"]()(matrices, density)


@laws
@given(shapes, densities)
def test_erk_gives_layers_that_are_not_dense_in_proportion(sizes: Shapes, density: float) -> None:
    shares = DISTRIBUTIONS["erk"]()(sizes, density)
    epsilons = [shares[n] * prod(s) / sum(s) for n, s in sizes.items() if shares[n] < 1.0]
    assert epsilons == pytest.approx([epsilons[0]] * len(epsilons), rel=1e-9) if epsilons else True


@laws
@given(shapes, densities)
def test_counts_sum_to_the_rounded_budget(sizes: Shapes, density: float) -> None:
    shares = DISTRIBUTIONS["uniform"]()(sizes, density)
    try:
        whole = counts(sizes, shares)
    except RegrowError:
        assert min(shares[n] * prod(s) for n, s in sizes.items()) < 1.0  # only where a layer would be empty
        return
    assert sum(whole.values()) == round(kept(sizes, shares))
    for name, shape in sizes.items():
        assert 0 < whole[name] <= prod(shape)
        assert abs(whole[name] - shares[name] * prod(shape)) < 1.0


@laws
@given(shapes, densities, st.floats(0.01, 1.0))
def test_overrides_are_paid_for_by_the_others(sizes: Shapes, density: float, own: float) -> None:
    assume(len(sizes) > 1)
    named, total = sorted(sizes)[0], sum(map(prod, sizes.values()))
    left = density * total - own * prod(sizes[named])
    distribution = Overrides(DISTRIBUTIONS["erk"](), {named: own})
    if 0 < left <= total - prod(sizes[named]):
        shares = distribution(sizes, density)
        assert shares[named] == own
        assert kept(sizes, shares) == pytest.approx(density * total, rel=1e-6)
    elif not 0 < left <= (total - prod(sizes[named])) * (1 + 1e-9):
        with pytest.raises(RegrowError, match="cannot be kept"):
            distribution(sizes, density)


@laws
@given(shapes, st.floats(0.01, 0.19))
def test_a_classifiers_floor_is_paid_for(sizes: Shapes, density: float) -> None:
    last, total = list(sizes)[-1], sum(map(prod, sizes.values()))
    assume(len(sizes) > 1)
    assume(density * total - 0.2 * prod(sizes[last]) > 0)
    shares = Uniform(classifier=0.2)(sizes, density)
    assert shares[last] == 0.2
    assert kept(sizes, shares) == pytest.approx(density * total, rel=1e-9)
    others = {share for name, share in shares.items() if name != last}
    assert len(others) == 1


@laws
@given(shapes, densities)
def test_a_dense_first_layer_is_not_paid_for(sizes: Shapes, density: float) -> None:
    shares = Uniform(dense_first=True)(sizes, density)
    assert list(shares.values()) == [1.0] + [pytest.approx(density)] * (len(sizes) - 1)
