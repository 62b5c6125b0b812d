"""Every start, on both backends: its exact budget, three steps of training, and what cannot start so refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow import RegrowError
from regrow.core.distributions import ERK, counts
from regrow.core.saliency import SALIENCIES
from regrow.sparsifier.scored import Scored

BATCH = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4


def convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)),
    )


class Attention(nn.Module):
    """Its projection is three sites of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.squeeze(1)
        out: Tensor = self.out(self.attend(tokens, tokens, tokens, need_weights=False)[0].mean(1))
        return out


def start(model: nn.Module, density: float = 0.3, **setup: Any) -> tuple[regrow.Sparsifier, torch.optim.SGD]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return regrow.sparsify(model, optimizer, **{"method": "static", "density": density, **setup}), optimizer


CASES = [
    (name, make) for name in SALIENCIES for make in (convolutions, Attention) if (name, make) != ("synflow", Attention)
]


@pytest.mark.parametrize("backend", ["masked", "sparse"])
@pytest.mark.parametrize(("name", "make"), CASES)
def test_it_trains(name: str, make: type[nn.Module], backend: str) -> None:
    torch.manual_seed(0)
    model = make()
    dense = {key: value.clone() for key, value in model.state_dict().items()}
    sparsifier, optimizer = start(model, topology=name, batch=BATCH, backend=backend)
    topology = sparsifier.topology
    assert topology.nnz == round(0.3 * topology.numel)
    for site in topology:
        if "[" not in site:
            assert torch.equal(model.state_dict()[site], dense[site] * topology[site])
    for _ in range(3):
        F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.step == 3
    assert sparsifier.topology == topology
    again, _ = start(make_again(make), topology=name, batch=BATCH)
    assert again.topology.digest() == topology.digest(), "a function of seed, weights and batch"


def make_again(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    torch.rand(3)  # the generator stands elsewhere
    return model


def test_a_method_goes_on_from_it() -> None:
    model = convolutions()
    sparsifier, optimizer = start(model, method="set", every=1, total_steps=9, topology="snip", batch=BATCH)
    first = sparsifier.topology
    for _ in range(3):
        F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.topology.nnz == first.nnz
    assert sparsifier.topology.digest() != first.digest()


def test_layers_take_their_share_where_a_distribution_says_so() -> None:
    chosen = Scored("snip", BATCH, layers="erk")
    topology = start(convolutions(), topology=chosen)[0].topology
    assert {n: topology.nnz_of(n) for n in topology} == counts(topology.shapes, ERK()(topology.shapes, 0.3))


def test_a_floor_keeps_layers_alive() -> None:
    model = convolutions()
    model[0].weight.data.mul_(1e-6)
    with pytest.raises(RegrowError, match=r"layer collapse: with 340 of 3400 weights left, '0\.weight' has 0 of 72\."):
        start(model, density=0.1, topology="magnitude")
    topology = start(model, density=0.1, topology=Scored("magnitude", floor=2))[0].topology
    assert (topology.nnz, topology.nnz_of("0.weight")) == (340, 2)


def test_synflow_has_nothing_to_say_of_queries_and_keys() -> None:
    """All tokens are ones, so attention looks everywhere alike: a collapse that is reported."""
    with pytest.raises(RegrowError, match=r"layer collapse: .*'attend\.in_proj_weight\[q\]' has 0 of 64"):
        start(Attention(), topology="synflow", batch=BATCH)


def test_refusals() -> None:
    with pytest.raises(RegrowError, match=r"topology='grasp' needs a batch .*batch=\(inputs, targets\)"):
        start(convolutions(), topology="grasp")
    with pytest.raises(RegrowError, match=r"batch=.* but topology='erk' scores none"):
        start(convolutions(), topology="erk", batch=BATCH)
    with pytest.raises(RegrowError, match=r"unknown topology 'snipe'; did you mean 'snip'"):
        start(convolutions(), topology="snipe", batch=BATCH)
    with pytest.raises(RegrowError, match=r"overrides shape a random start"):
        start(convolutions(), topology="snip", batch=BATCH, overrides={"0.weight": 0.5})
    with pytest.raises(RegrowError, match=r"scores of '0\.weight' are not finite"):
        start(convolutions(), topology="snip", batch=(BATCH[0] * torch.inf, BATCH[1]))


def test_sparse_layers_are_refused_by_name() -> None:
    from regrow.execution.sparse_linear import SparseLinear

    model = nn.Sequential(nn.Flatten(), SparseLinear(64, 4, nnz=128))
    with pytest.raises(
        RegrowError, match=r"topology='grasp' scores .* plain layers, but '1\.weight' is a SparseLinear"
    ):
        start(model, topology="grasp", batch=BATCH, backend="sparse")


def test_a_mask_that_kills_a_layer_is_refused() -> None:
    model = convolutions()
    given = start(model, topology="erk")[0].topology
    dead = regrow.Topology.from_masks({name: given[name] & (name != "7.weight") for name in given})
    with pytest.raises(RegrowError, match=r"layer collapse: .* '7\.weight' has 0 of 2048\. Take another mask"):
        start(convolutions(), topology=dead, density=None)
