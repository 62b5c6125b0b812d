"""What was explored is the union of the topologies, however it is kept."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import laws

from regrow.core.explored import Explored
from regrow.core.topology import Topology

histories = st.tuples(
    st.integers(1, 3000), st.lists(st.sets(st.integers(0, 2999), max_size=80), min_size=1, max_size=6)
)


@laws
@given(histories)
def test_explored_is_the_union(drawn: tuple[int, list[set[int]]]) -> None:
    numel, history = drawn
    topologies = [topology({at % numel for at in some}, numel) for some in history]
    explored, union = Explored(topologies[0]), topologies[0]
    for new in topologies:
        explored.add(new.since(union) if len(new.index("w")) % 2 else {name: new.index(name) for name in new})
        union = union | new
        assert explored.topology == union
        assert explored.index("w").dtype == union.index("w").dtype
        assert explored.density == union.density


def topology(of: set[int], numel: int) -> Topology:
    index = {"w": torch.tensor(sorted(of), dtype=torch.int64), "b": torch.arange(4)}
    return Topology(index, {"w": (numel,), "b": (4,)})
