from __future__ import annotations

import copy
import io

import pytest
import torch

from regrow import RegrowError, Topology


def small() -> Topology:
    return Topology({"a": torch.tensor([0, 2, 5]), "b": torch.tensor([1])}, {"a": (2, 3), "b": (2, 2)})


def test_masks_are_derived() -> None:
    topology = small()
    assert topology["a"].tolist() == [[True, False, True], [False, False, True]]
    assert topology.mask("b").tolist() == [[False, True], [False, False]]
    assert {name: int(mask.sum()) for name, mask in topology.items()} == {"a": 3, "b": 1}
    assert list(topology) == ["a", "b"]
    assert "a" in topology
    assert len(topology) == 2


def test_numbers() -> None:
    topology = small()
    assert (topology.nnz, topology.numel, topology.density) == (4, 10, 0.4)
    assert topology.densities() == {"a": 0.5, "b": 0.25}
    assert (topology.nnz_of("a"), topology.numel_of("a"), topology.shape("a")) == (3, 6, (2, 3))
    assert topology.index("a").dtype == torch.int32
    assert repr(topology) == "Topology(2 sites, 4 of 10 weights, density 0.4)"


def test_the_digest_is_known() -> None:
    """It is stored in checkpoints: another one would refuse yesterday's."""
    assert small().digest() == "3a67999ac1560524"


def test_the_digest_knows_names_shapes_and_content() -> None:
    digests = {
        small().digest(),
        Topology({"a": torch.tensor([0, 2, 5]), "c": torch.tensor([1])}, {"a": (2, 3), "c": (2, 2)}).digest(),
        Topology({"a": torch.tensor([0, 2, 5]), "b": torch.tensor([1])}, {"a": (3, 2), "b": (2, 2)}).digest(),
        Topology({"a": torch.tensor([0, 2, 4]), "b": torch.tensor([1])}, {"a": (2, 3), "b": (2, 2)}).digest(),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "positions", [[2, 0], [1, 1], [-1, 2], [0, 6], [2**32]], ids=["unsorted", "repeated", "negative", "beyond", "wraps"]
)
def test_impossible_positions(positions: list[int]) -> None:
    with pytest.raises(RegrowError, match=r"site 'a': positions must be ascending, distinct and in 0\.\.5"):
        Topology({"a": torch.tensor(positions)}, {"a": (2, 3)})


def test_names_without_shapes() -> None:
    with pytest.raises(RegrowError, match=r"these differ: \['b'\]"):
        Topology({"a": torch.tensor([0])}, {"a": (1,), "b": (1,)})


def test_topologies_of_other_sites_do_not_combine() -> None:
    other = Topology.full({"a": (2, 3)})
    for operation in (lambda: small() | other, lambda: small() - other, lambda: small().overlap(other)):
        with pytest.raises(RegrowError, match="cannot be combined"):
            operation()


def test_full_and_empty() -> None:
    full = Topology.full({"a": (2, 3)})
    assert full.density == 1.0
    assert (full - full).nnz == 0
    assert (full - full).overlap(full - full) == 1.0
    assert Topology({}, {}).density == 0.0


def test_of_a_state() -> None:
    state = {"w": torch.tensor([[0.0, 1.0]]), "dense": torch.ones(2, 2), "bias": torch.zeros(2)}
    assert Topology.of(state).densities() == {"w": 0.5}
    assert Topology.of(state, ["dense"]).densities() == {"dense": 1.0}


def test_of_a_state_without_the_weight() -> None:
    with pytest.raises(RegrowError, match=r"unknown weight 'fc\.wieght'; did you mean 'fc\.weight'"):
        Topology.of({"fc.weight": torch.zeros(2, 2)}, ["fc.wieght"])


def test_through_a_file() -> None:
    file = io.BytesIO()
    torch.save(small().pack(), file)
    file.seek(0)
    assert Topology.unpack(torch.load(file, weights_only=True)) == small()


def test_a_value() -> None:
    assert {small(): 1}[copy.deepcopy(small())] == 1
    assert small() != "something else"
    assert small().to("cpu") == small()
