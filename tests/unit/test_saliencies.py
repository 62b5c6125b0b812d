"""Saliencies against closed forms and finite differences; what is kept of them, to the weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regrow.core.balance import balanced
from regrow.core.errors import RegrowError
from regrow.core.ranking import keep, progressive
from regrow.core.saliency import SALIENCIES, SNIP, GraSP, Magnitude, SynFlow, Taylor, Weights
from regrow.core.topology import Topology

DRAW = torch.Generator().manual_seed(1)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


def two_layers() -> nn.Sequential:
    """Linear, so that all has a closed form; biases are no candidates."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    for parameter in net.parameters():
        parameter.data = randn(*parameter.shape)
    return net


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in net.named_parameters() if p.dim() > 1}


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum() / 2


BATCH = randn(5, 3), randn(5, 2)


def value(net: nn.Module, weights: Weights, temperature: float = 1.0) -> float:
    outputs = torch.func.functional_call(net, dict(weights), (BATCH[0],))
    return half_square(outputs / temperature, BATCH[1]).item()


def nudged(weights: Weights, name: str, at: int, by: float) -> dict[str, Tensor]:
    moved = {key: weight.clone() for key, weight in weights.items()}
    moved[name].view(-1)[at] += by
    return moved


def test_snip_and_taylor_in_closed_form() -> None:
    net = two_layers()
    weights = weights_of(net)
    x, y = BATCH
    hidden = x @ net[0].weight.T + net[0].bias
    error = hidden @ net[1].weight.T + net[1].bias - y
    grads = {"0.weight": net[1].weight.T @ error.T @ x, "1.weight": error.T @ hidden}
    snip, taylor = (saliency(net, weights, BATCH, half_square) for saliency in (SNIP(), Taylor()))
    for name, grad in grads.items():
        torch.testing.assert_close(snip[name], (grad * weights[name]).abs())
        torch.testing.assert_close(taylor[name], (grad * weights[name]).square())


def test_snip_is_what_the_loss_changes_by() -> None:
    net = two_layers()
    weights = weights_of(net)
    scores = SNIP()(net, weights, BATCH, half_square)
    for name, weight in weights.items():
        for at in range(weight.numel()):
            step = 1e-6 * float(weight.view(-1)[at])
            change = value(net, nudged(weights, name, at, step)) - value(net, nudged(weights, name, at, -step))
            assert float(scores[name].view(-1)[at]) == pytest.approx(abs(change) / 2e-6, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_grasp_of_a_quadratic_loss(temperature: float) -> None:
    """One layer: L = |X w' / T - y|^2 / 2 has H = X' X / T^2 for each row of w, and g = H w' - X' y / T."""
    net = nn.Linear(3, 2, bias=False).double()
    weights = weights_of(net)
    x, y = BATCH
    hessian = x.T @ x / temperature**2
    grad = weights["weight"] @ hessian - y.T @ x / temperature
    scores = GraSP(temperature)(net, weights, BATCH, half_square)
    torch.testing.assert_close(scores["weight"], weights["weight"] * (grad @ hessian))


def test_grasp_with_an_explicit_hessian() -> None:
    """Two layers, whose Hessian has blocks between them; by finite differences of gradients too."""
    net = two_layers()
    weights = weights_of(net)
    flat = torch.cat([weight.flatten() for weight in weights.values()])

    def loss(vector: Tensor) -> Tensor:
        first, second = vector.split([12, 8])
        outputs = torch.func.functional_call(
            net, {"0.weight": first.view(4, 3), "1.weight": second.view(2, 4)}, BATCH[0]
        )
        return half_square(outputs / 200.0, BATCH[1])

    grad = torch.func.grad(loss)
    hessian = torch.func.jacrev(grad)(flat)
    found = torch.cat([score.flatten() for score in GraSP()(net, weights, BATCH, half_square).values()])
    torch.testing.assert_close(found, flat * (hessian @ grad(flat)))
    g, eps = grad(flat), 1e-4
    numeric = (grad(flat + eps * g) - grad(flat - eps * g)) / (2 * eps)
    torch.testing.assert_close(found, flat * numeric, rtol=1e-5, atol=1e-9)


def test_grasp_keeps_the_flow_of_gradients() -> None:
    """The sign: without the weights of lowest score, the norm of the gradient falls least."""
    net = two_layers()
    weights = weights_of(net)
    scores = GraSP(temperature=1.0)(net, weights, BATCH, half_square)
    flow = {}
    for name, weight in weights.items():
        for at in range(weight.numel()):
            tiny = nudged(weights, name, at, -1e-5 * float(weight.view(-1)[at]))
            leaves = {key: w.clone().requires_grad_() for key, w in tiny.items()}
            outputs = torch.func.functional_call(net, leaves, (BATCH[0],))
            grads = torch.autograd.grad(half_square(outputs, BATCH[1]), [*leaves.values()])
            flow[name, at] = float(sum(g.square().sum() for g in grads))
    best = max(flow, key=lambda key: float(scores[key[0]].view(-1)[key[1]]))
    worst = min(flow, key=lambda key: float(scores[key[0]].view(-1)[key[1]]))
    assert flow[best] == min(flow.values())  # without the best one gradients shrink most
    assert flow[worst] == max(flow.values())


def test_synflow_in_closed_form_and_conserved() -> None:
    net = two_layers()
    net[0].bias.data.zero_()
    scores = SynFlow()(net, weights_of(net), BATCH, half_square)
    first, second = (layer.weight.abs() for layer in (net[0], net[1]))
    torch.testing.assert_close(scores["0.weight"], first * second.sum(0)[:, None])
    torch.testing.assert_close(scores["1.weight"], second * first.sum(1))
    torch.testing.assert_close(scores["0.weight"].sum(), scores["1.weight"].sum())


def test_synflow_stays_finite_where_single_precision_does_not() -> None:
    net = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(30)))
    for layer in net:
        layer.weight.data.mul_(100.0)
    scores = SynFlow()(net, weights_of(net), (torch.ones(1, 64), torch.zeros(1)), half_square)
    assert all(bool(score.isfinite().all()) for score in scores.values())
    assert float(scores["0.weight"].max()) > torch.finfo(torch.float32).max


@pytest.mark.parametrize("name", SALIENCIES)
def test_a_model_is_left_as_it_was(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(64, 3))
    net[1].eval()
    before = {key: entry.clone() for key, entry in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    batch = torch.randn(6, 1, 6, 6), torch.arange(6) % 3
    weights = weights_of(net)
    scores = SALIENCIES[name]()(net, weights, batch, F.cross_entropy)
    assert {key: score.shape for key, score in scores.items()} == {key: w.shape for key, w in weights.items()}
    assert all(torch.equal(entry, before[key]) for key, entry in net.state_dict().items())
    assert modes == [module.training for module in net.modules()]
    assert all(parameter.grad is None for parameter in net.parameters())
    if name not in ("random", "magnitude"):
        again = SALIENCIES[name]()(net, weights, batch, F.cross_entropy)
        assert all(torch.equal(scores[key], again[key]) for key in scores), "dropout is off"


def test_attention_has_second_derivatives() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    batch = torch.randn(4, 3, 8), torch.randn(4, 3, 8)
    scores = GraSP()(layer, weights_of(layer), batch, F.mse_loss)
    assert all(bool(score.any()) for score in scores.values())


def test_the_best_are_kept_and_ties_go_to_the_first() -> None:
    scores = {"a": torch.tensor([[3.0, 1.0], [1.0, 1.0]]), "b": torch.tensor([[1.0, 2.0]])}
    full = Topology.full({"a": (2, 2), "b": (1, 2)})
    kept = keep(scores, 4, full)
    assert {name: kept.index(name).tolist() for name in kept} == {"a": [0, 1, 2], "b": [1]}
    apart = keep(scores, {"a": 1, "b": 2}, full)
    assert {name: apart.index(name).tolist() for name in apart} == {"a": [0], "b": [0, 1]}
    again = keep({"a": torch.zeros(2, 2), "b": torch.ones(1, 2)}, 2, kept)
    assert {name: again.index(name).tolist() for name in again} == {"a": [0], "b": [1]}, "what is gone stays gone"
    floored = keep({"a": torch.ones(2, 2), "b": torch.zeros(1, 2)}, 3, full, floor=1)
    assert {name: floored.index(name).tolist() for name in floored} == {"a": [0, 1], "b": [0]}


def test_steps_are_geometric_and_the_last_is_exact() -> None:
    seen: list[int] = []

    def score(left: Topology) -> dict[str, Tensor]:
        seen.append(left.nnz)
        return {name: torch.arange(left.numel_of(name)) + 1.0 for name in left}

    shapes = {"a": (50, 10), "b": (10, 10)}
    assert progressive(score, shapes, 6, iterations=2, floor=1).nnz == 6
    assert seen == [600, 60]
    apart = progressive(score, shapes, {"a": 5, "b": 2}, iterations=7)
    assert (apart.nnz_of("a"), apart.nnz_of("b")) == (5, 2)


def test_collapse_is_reported_by_name() -> None:
    def score(left: Topology) -> dict[str, Tensor]:
        return {"a": torch.ones(4, 2), "b": torch.zeros(2, 2), "c": torch.ones(1, 4)}

    shapes = {"a": (4, 2), "b": (2, 2), "c": (1, 4)}
    with pytest.raises(RegrowError, match=r"layer collapse: with 12 of 16 .* 'b' has 0 of 4\. Raise.*floor=1"):
        progressive(score, shapes, 12)
    assert progressive(score, shapes, 12, floor=1).nnz_of("b") == 1
    with pytest.raises(RegrowError, match=r"floor=2 of each of 3 layers is more than the 5"):
        progressive(score, shapes, 5, floor=2)


def test_scores_that_are_no_numbers_are_refused() -> None:
    full = Topology.full({"a": (1, 3)})
    with pytest.raises(RegrowError, match=r"2 of the 3 scores of 'a' are not finite"):
        keep({"a": torch.tensor([[1.0, torch.nan, torch.inf]])}, 1, full)


def test_a_balanced_batch() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 1, 1, 2, 0])
    inputs = torch.arange(9.0)[:, None]
    found = balanced([(inputs[:5], labels[:5]), (inputs[5:], labels[5:])], classes=3, per_class=2)
    assert found[0].flatten().tolist() == [0, 1, 3, 4, 5, 7]
    assert found[1].bincount().tolist() == [2, 2, 2]
    with pytest.raises(RegrowError, match=r"3 samples of each of 3 classes, but the data hold only 2 of class 2"):
        balanced([(inputs, labels)], classes=3, per_class=3)


def test_magnitude_looks_at_no_model() -> None:
    weights = {"a": torch.tensor([[-2.0, 1.0]])}
    nothing = torch.empty(0), torch.empty(0)
    assert Magnitude()(nn.Identity(), weights, nothing, half_square)["a"].tolist() == [[2.0, 1.0]]
