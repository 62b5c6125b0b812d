"""Saliencies as ToST's pruning code computes them: losses of batches summed, batch norms in train and in eval mode."""

from __future__ import annotations

import pytest
import torch
from replay import Golden
from torch import Tensor, nn
from torch.nn import functional as F

from regrow.core import ranking, saliency
from regrow.core.ranking import keep, progressive
from regrow.core.topology import Topology

GOLDEN = Golden("saliency")
NAMES = ("0.weight", "3.weight", "8.weight")
OURS = {
    "SNIP": saliency.SNIP(),
    "GraSP": saliency.GraSP(),
    "SynFlow": saliency.SynFlow(),
    "Taylor1ScorerAbs": saliency.Taylor(),
    "Mag": saliency.Magnitude(),
}


class Batches(nn.Module):
    """A network that takes batches one after another, so that each has its own statistics."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(batch) for batch in x.split(8)])


def net() -> nn.Sequential:
    layers = nn.Sequential(
        *(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        *(nn.Conv2d(5, 7, 3, padding=1), nn.BatchNorm2d(7), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(28, 4)),
    ).double()
    layers.load_state_dict({name: GOLDEN[f"state/{name}"] for name in layers.state_dict()})
    return layers


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) * 2  # of two batches


def scores(method: str, mode: str, model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    batch = GOLDEN["batch_x"].flatten(0, 1), GOLDEN["batch_y"].flatten()
    given = {f"net.{name}": weight for name, weight in weights.items()}
    found = OURS[method](Batches(model), given, batch, summed)
    return {name: found[f"net.{name}"] for name in weights}


CASES = [
    (method, mode)
    for method in OURS
    for mode in ("train", "eval")
    if (method, mode) != ("SynFlow", "train")  # a defect that is not reproduced: conservation is lost
]


@pytest.mark.parametrize(("method", "mode"), CASES)
def test_scores_and_masks(method: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode == "eval":
        monkeypatch.setattr(saliency, "batch_statistics", saliency._evaluating)
    model = net()
    weights = {name: model.get_parameter(name).detach() for name in NAMES}
    ours = scores(method, mode, model, weights)
    theirs = {name: GOLDEN[f"{method}/{mode}/score/{name}"] for name in NAMES}
    if method == "Taylor1ScorerAbs":
        ours = {name: score.sqrt() for name, score in ours.items()}
    total = float(torch.cat([score.flatten() for score in ours.values()]).sum().abs())
    scale = {"SNIP": total, "GraSP": total + 1e-10}.get(method, 1.0)
    largest = max(float(score.abs().max()) for score in theirs.values())
    for name in NAMES:
        torch.testing.assert_close(ours[name] / scale, theirs[name], rtol=0, atol=1e-8 * largest)
    for density in (0.5, 0.2, 0.1):
        masks = {name: GOLDEN[f"{method}/{mode}/mask_d{density}/{name}"] for name in NAMES}
        wanted = Topology.from_masks(masks)
        assert keep(ours, wanted.nnz, Topology.full(wanted.shapes)).digest() == wanted.digest()


@pytest.mark.parametrize("iterations", [10, 100])
def test_synflow_in_steps(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the published code's numbers of weights on the way, which are rounded up."""
    monkeypatch.setattr(ranking, "_between", lambda whole, n, through: whole - int((1 - 0.1**through) * whole))
    model = net()
    wanted = Topology.from_masks({name: GOLDEN[f"SynFlow_iter{iterations}/eval/mask_d0.1/{name}"] for name in NAMES})

    def score(left: Topology) -> dict[str, Tensor]:
        weights = {name: model.get_parameter(name).detach() * left.mask(name) for name in NAMES}
        return scores("SynFlow", "eval", model, weights)

    assert progressive(score, wanted.shapes, wanted.nnz, iterations).digest() == wanted.digest()


def test_the_defect_is_the_one_described() -> None:
    """With batch statistics SynFlow empties the first layer."""
    kept = {mode: int(GOLDEN[f"SynFlow_iter100/{mode}/mask_d0.1/0.weight"].sum()) for mode in ("train", "eval")}
    assert kept["train"] == 0 < kept["eval"]
