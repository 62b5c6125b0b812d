"""Packed sets of positions: read back exactly, never above a bit a place, near the entropy, damage noticed."""

from __future__ import annotations

from math import log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import laws

from regrow.core import packing, positions, rng


@st.composite
def sets(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    numel = draw(st.sampled_from([1, 7, 8, 9, 64, 1000, 65_537, 2**31 + 11, 2**40]))
    most = min(numel, 3000)
    share = draw(st.sampled_from([0.0, 1e-3, 0.05, 0.5, 0.9, 1.0]))
    return positions.sample(numel, round(share * most), rng.generator(draw(st.integers(0, 99)), "set")), numel


@laws
@given(sets())
def test_back_as_it_was_in_at_most_a_bit_a_place(case: tuple[torch.Tensor, int]) -> None:
    at, numel = case
    code = packing.pack(at, numel)
    assert code.dtype == torch.uint8
    assert code.numel() == packing.size(at.numel(), numel) <= -(-numel // 8)
    assert torch.equal(packing.unpack(code, at.numel(), numel), at.long())


@pytest.mark.parametrize("density", [0.005, 0.02, 0.05, 0.1, 0.2, 0.8, 0.95])
def test_near_the_entropy(density: float) -> None:
    numel = 200_000
    entropy = -density * log2(density) - (1 - density) * log2(1 - density)
    bits = 8 * packing.size(round(density * numel), numel) / numel
    assert entropy <= bits <= 1.0
    assert bits <= 1.2 * entropy


@pytest.mark.parametrize("damage", ["short", "long", "more", "other n"])
def test_what_is_no_code_is_refused(damage: str) -> None:
    at, numel = positions.sample(1000, 50, rng.generator(0, "set")), 1000
    code, n = packing.pack(at, numel), 50
    if damage == "short":
        code = code[:-1]
    elif damage == "long":
        code = torch.cat([code, code[:1]])
    elif damage == "more":
        code[-1] |= 0xFF
    else:
        n = 2000
    with pytest.raises(ValueError, match="positions"):
        packing.unpack(code, n, numel)
