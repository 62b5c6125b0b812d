"""Topology: set algebra site by site, packed to a bit a weight, known by its content."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import laws, shapes

from regrow import RegrowError, Topology
from regrow.core import rng


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Topology, Topology]:
    """Two topologies of the same sites, some of them empty or full."""
    sites = draw(shapes)
    densities = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])

    def one() -> Topology:
        seed = draw(st.integers(0, 99))
        return Topology.from_masks(
            {n: torch.rand(shape, generator=rng.generator(seed, n)) < draw(densities) for n, shape in sites.items()}
        )

    return one(), one()


@laws
@given(pairs())
def test_algebra(pair: tuple[Topology, Topology]) -> None:
    a, b = pair
    for result, masks in (
        (a | b, {n: a[n] | b[n] for n in a}),
        (a & b, {n: a[n] & b[n] for n in a}),
        (a - b, {n: a[n] & ~b[n] for n in a}),
    ):
        assert all(torch.equal(result[n], masks[n]) for n in a)
    assert (a | b).nnz == a.nnz + b.nnz - (a & b).nnz
    assert (a - b) | (a & b) == a
    assert a | b == b | a
    union = (a | b).nnz
    assert a.overlap(b) == b.overlap(a) == ((a & b).nnz / union if union else 1.0)
    assert a.overlap(a) == 1.0


@laws
@given(pairs())
def test_counts(pair: tuple[Topology, Topology]) -> None:
    topology, _ = pair
    assert topology.nnz == sum(int(mask.sum()) for mask in topology.values())
    assert topology.numel == sum(mask.numel() for mask in topology.values())
    assert topology.density == topology.nnz / topology.numel
    assert topology.densities() == {n: float(mask.double().mean()) for n, mask in topology.items()}
    assert dict(topology.shapes) == {n: tuple(mask.shape) for n, mask in topology.items()}


@laws
@given(pairs())
def test_content_is_identity(pair: tuple[Topology, Topology]) -> None:
    a, b = pair
    same = all(torch.equal(a[n], b[n]) for n in a)
    assert (a == b) == (a.digest() == b.digest()) == same
    shuffled = Topology({n: a.index(n) for n in reversed(list(a))}, a.shapes)
    assert shuffled == a
    assert hash(shuffled) == hash(a)


@laws
@given(pairs())
def test_at_most_a_bit_a_weight_and_back(pair: tuple[Topology, Topology]) -> None:
    topology, _ = pair
    packed = topology.pack()
    assert all(code.numel() <= -(-topology.numel_of(n) // 8) for n, code in packed["code"].items())
    assert Topology.unpack(packed) == topology


@laws
@given(pairs(), st.data())
def test_a_flipped_bit_is_seen(pair: tuple[Topology, Topology], data: st.DataObject) -> None:
    packed = pair[0].pack()
    coded = sorted(name for name, code in packed["code"].items() if code.numel())
    if not coded:  # everything exists or nothing: that needs no bits
        return
    name = data.draw(st.sampled_from(coded))
    at = data.draw(st.integers(0, 8 * packed["code"][name].numel() - 1))
    packed["code"][name][at // 8] ^= 1 << (at % 8)
    with pytest.raises(RegrowError, match="damaged"):
        Topology.unpack(packed)


@laws
@given(pairs())
def test_from_the_zeros_of_a_state(pair: tuple[Topology, Topology]) -> None:
    topology, _ = pair
    state = {name: mask.float() * 3 for name, mask in topology.items()}
    assert Topology.of(state, topology) == topology
    state["bias"] = torch.zeros(3)
    assert set(Topology.of(state)) == {n for n in topology if topology.nnz_of(n) < topology.numel_of(n)}
