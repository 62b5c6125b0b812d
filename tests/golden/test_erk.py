"""ERK as ITOP's code solves it, eight networks, four densities."""

from __future__ import annotations

from math import prod

import pytest
import torch
from replay import Golden

from regrow.core.distributions import ERK

GOLDEN = Golden("erk_densities")
NETS = sorted({key.partition("/")[0] for key in GOLDEN.arrays})
DENSITIES = (0.2, 0.1, 0.05, 0.02)


def test_all_networks_are_there() -> None:
    assert len(NETS) == 8


@pytest.mark.parametrize("net", NETS)
def test_densities_epsilon_and_dense_layers(net: str) -> None:
    names = [str(name) for name in GOLDEN.arrays[f"{net}/names"]]
    shapes = {n: tuple(k for k in s if k) for n, s in zip(names, GOLDEN[f"{net}/shapes"].tolist(), strict=True)}
    for i, density in enumerate(DENSITIES):
        given = ERK()(shapes, density)
        assert list(given) == names
        ours = torch.tensor(list(given.values()), dtype=torch.float64)
        assert (ours - GOLDEN[f"{net}/density"][i]).abs().max() <= 1e-12
        free = [name for name in names if given[name] < 1.0]
        assert len(names) - len(free) == GOLDEN[f"{net}/n_dense"][i]
        epsilon = GOLDEN[f"{net}/epsilon"][i].item()
        for name in free:
            assert given[name] * prod(shapes[name]) / sum(shapes[name]) == pytest.approx(epsilon, rel=1e-12)
