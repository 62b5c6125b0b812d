"""One drop-and-grow of ITOP's code, through the real sparsifier: three layers, five drop fractions, three rules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from replay import Golden, Weights, still_sgd, topology_of

import regrow
from regrow.core.patterns import UNSTRUCTURED
from regrow.core.schedules import Constant
from regrow.core.site import Clock
from regrow.methods import build
from regrow.methods.base import Method
from regrow.sparsifier import Sparsifier

GOLDEN = Golden("drop_grow_itop")
FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.8)
RULES: dict[str, dict[str, Any]] = {  # their case -> our method, and the input that is its gradient
    "itop_magnitude_gradient": {"method": "rigl-itop", "signal": "grad"},
    "itop_magnitude_momentum": {"method": "momentum-itop", "signal": "momentum"},
    "itop_taylor_gradient": {"method": "taylor-itop", "signal": "grad"},
}
CASES = [(rule, p) for rule in RULES for p in FRACTIONS]


def armed(method: Method) -> tuple[Weights, torch.optim.SGD, Sparsifier]:
    """The given layers, on the given masks, with an update due at the first step."""
    model = Weights(GOLDEN.layers("in/{}/weight"))
    optimizer = still_sgd(model, GOLDEN.layers("in/{}/momentum"))
    masks = topology_of(GOLDEN.layers("in/{}/mask"))
    return model, optimizer, regrow.sparsify(model, optimizer, method=method, topology=masks, total_steps=1, every=1)


@pytest.mark.parametrize(("rule", "p"), CASES)
def test_masks(rule: str, p: float) -> None:
    """By momentum: the backend keeps that buffer itself, so the first gradient it sees is the momentum given."""
    method = build(RULES[rule]["method"], fraction=Constant(p))
    model, optimizer, sparsifier = armed(method)
    sites = sparsifier.backend.sites(UNSTRUCTURED)
    removed = {name: int(n) for name, n in GOLDEN.layers(f"{rule}/p{p}/{{}}/n_removed").items()}
    assert {n.removesuffix(".weight"): k for n, k in method.births(sites, Clock(1, 1, 1.0)).items()} == removed
    model.backward(GOLDEN.layers(f"in/{{}}/{RULES[rule]['signal']}"))
    optimizer.step()
    assert sparsifier.topology == topology_of(GOLDEN.layers(f"{rule}/p{p}/{{}}/mask"))


def test_weights_and_momentum() -> None:
    """What is dropped and regrown keeps both; what is new starts at zero; nothing is left outside the masks.

    The momentum given is dense, so theirs leaves some on new weights; in a run of ITOP's it is masked at every step.
    """
    model, optimizer, _ = armed(build("rigl-itop", fraction=Constant(0.8)))
    model.backward(GOLDEN.layers("in/{}/grad"))
    optimizer.step()
    for name, weight in GOLDEN.layers("itop_magnitude_gradient/p0.8/{}/weight_out").items():
        assert torch.equal(model.get_parameter(f"{name}.weight"), weight)
    for name, momentum in GOLDEN.layers("itop_magnitude_gradient/p0.8/{}/momentum_out").items():
        ours = optimizer.state[model.get_parameter(f"{name}.weight")]["momentum_buffer"]
        assert torch.equal(ours, momentum * GOLDEN[f"in/{name}/mask"])


@pytest.mark.parametrize("p", FRACTIONS)
def test_random_growth_is_what_theirs_is_in_the_mean(p: float) -> None:
    """Theirs draws a binomial number of new weights around the request; ours is the request."""
    model, optimizer, sparsifier = armed(build("set-itop", fraction=Constant(p)))
    before = sparsifier.topology
    model.backward(GOLDEN.layers("in/{}/grad"))
    optimizer.step()
    requested = GOLDEN["random/requested"][FRACTIONS.index(p)].tolist()
    dropped = topology_of(GOLDEN.layers(f"itop_magnitude_gradient/p{p}/{{}}/mask_after_drop"))
    for name, births in zip(sparsifier.topology, requested, strict=True):
        assert sparsifier.topology.nnz_of(name) == before.nnz_of(name)
        assert (sparsifier.topology - dropped).nnz_of(name) == births
