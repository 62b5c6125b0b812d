"""Ten updates of ITOP's code in one run of 100 steps: masks, drop fractions, and the share of weights ever active."""

from __future__ import annotations

import pytest
from replay import Golden, Weights, still_sgd, topology_of

import regrow
from regrow.methods.drop_grow import DropGrow

GOLDEN = Golden("explored")
TOTAL, INTERVAL = 100, 10


def test_ten_updates() -> None:
    model = Weights(GOLDEN.layers("u0/weight/{}"))
    optimizer = still_sgd(model)
    masks = topology_of(GOLDEN.layers("mask0/{}"))
    sparsifier = regrow.sparsify(
        model, optimizer, method="rigl-itop", topology=masks, total_steps=TOTAL, every=INTERVAL
    )
    for step in range(1, TOTAL + 1):
        update, rest = divmod(step, INTERVAL)
        if rest:
            optimizer.step()
            continue
        model.put(GOLDEN.layers(f"u{update - 1}/weight/{{}}"))
        model.backward(GOLDEN.layers(f"u{update - 1}/grad/{{}}"))
        optimizer.step()
        optimizer.zero_grad()
        check(sparsifier, update - 1)
    assert sparsifier.explored == topology_of(GOLDEN.layers("fired_final/{}"))


def check(sparsifier: regrow.Sparsifier, update: int) -> None:
    assert sparsifier.topology == topology_of(GOLDEN.layers(f"u{update}/mask/{{}}"))
    assert [sparsifier.topology.nnz_of(name) for name in sparsifier.topology] == GOLDEN["nnz"][update].tolist()
    assert isinstance(sparsifier.method, DropGrow)
    assert sparsifier.method.fraction(sparsifier.step / TOTAL) == pytest.approx(
        float(GOLDEN["death_rate"][update]), abs=1e-12
    )
    explored = sparsifier.explored
    assert list(explored.densities().values()) == pytest.approx(
        GOLDEN["fired_fraction_layer"][update].tolist(), abs=1e-12
    )
    assert explored.density == pytest.approx(float(GOLDEN["fired_fraction_total"][update]), abs=1e-12)
    assert sparsifier.exploration_rate == explored.density
