"""How hypothesis runs here: the same examples each time, no deadline; and the drawings several files need."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

laws = settings(deadline=None, derandomize=True, max_examples=60, database=None)

subsets = st.integers(1, 60).flatmap(lambda numel: st.tuples(st.just(numel), *[st.sets(st.integers(0, numel - 1))] * 2))
"""(numel, a set of positions, another)."""

shapes = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.lists(st.integers(1, 24), min_size=2, max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)
"""Layers by name."""
