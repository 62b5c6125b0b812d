"""Curvature against an exact Hessian, landscapes and activity by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.metrics.activity import activities
from regrow.metrics.curvature import top_eigenvalue, trace
from regrow.metrics.landscape import direction, line, plane
from regrow.metrics.surface import Surface
from regrow.train.models import build


def setting() -> tuple[nn.Module, tuple[Tensor, Tensor], Topology]:
    """A sparse MLP in double precision, and its batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 3)).double()
    batch = torch.randn(40, 6).double(), torch.randint(3, (40,))
    model(batch[0])  # running statistics
    topology = Topology.from_masks(
        {name: torch.rand(model.get_parameter(name).shape) < 0.4 for name in ("0.weight", "3.weight")}
    )
    with torch.no_grad():
        for name, mask in topology.items():
            model.get_parameter(name).mul_(mask)
    return model, batch, topology


def exact_hessian(surface: Surface) -> Tensor:
    hessian: Tensor = torch.autograd.functional.hessian(surface.loss, surface.theta)
    return hessian


def test_the_surface_is_the_models_loss_over_what_exists() -> None:
    model, (x, y), topology = setting()
    surface = Surface(model, (x, y), topology)
    dense = sum(p.numel() for name, p in model.named_parameters() if name not in topology)
    assert len(surface.theta) == topology.nnz + dense
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = cross_entropy(model.eval()(x), y)
    loss.backward()
    torch.testing.assert_close(surface.loss(surface.theta), loss)
    grads = surface.weights(surface.gradient)
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(grads[name], p.grad * topology[name] if name in topology else p.grad)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_curvature_against_the_exact_hessian() -> None:
    model, batch, topology = setting()
    surface = Surface(model, batch, topology)
    hessian = exact_hessian(surface)
    v = torch.randn_like(surface.theta)
    torch.testing.assert_close(surface.hessian_product(v), hessian @ v)
    assert top_eigenvalue(surface) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=0.01)
    mean, error = trace(surface, probes=64)
    assert abs(mean - float(hessian.trace())) < 4 * error
    assert 0 < error < abs(mean)


def test_parts_of_one_parameter_and_fused_attention() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    shape = (8, 8)
    sites = {f"self_attn.in_proj_weight[{part}]": torch.rand(shape) < 0.5 for part in "qkv"}
    surface = Surface(
        model, (torch.randn(2, 3, 8), torch.randn(2, 3, 8)), Topology.from_masks(sites), nn.functional.mse_loss
    )
    whole = surface.weights(surface.theta)["self_attn.in_proj_weight"]
    for part, mask in zip(whole.chunk(3), sites.values(), strict=True):
        assert torch.equal(part != 0, mask)
    assert surface.hessian_product(torch.ones_like(surface.theta)).isfinite().all()


def test_landscapes_run_along_filters_as_long_as_the_weights() -> None:
    model, batch, topology = setting()
    surface = Surface(model, batch, topology)
    d, e = direction(surface, 0), direction(surface, 1)
    for name, moved in surface.weights(d).items():
        if name in topology:
            assert not moved[~topology[name]].any()
            torch.testing.assert_close(moved.norm(dim=1), surface.parameters[name].norm(dim=1))
        else:
            assert not moved.any()
    assert torch.equal(d, direction(surface, 0))
    assert not torch.equal(d, e)
    alphas = [-0.5, 0.0, 0.5]
    losses = line(surface, d, alphas)
    torch.testing.assert_close(losses[1], surface.loss(surface.theta))
    area = plane(surface, d, e, alphas)
    assert area.shape == (3, 3)
    torch.testing.assert_close(area[:, 1], losses)
    torch.testing.assert_close(area[1], line(surface, e, alphas))


def test_dead_units_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -1.0]))
    x = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    [found] = activities(model, [x[:1], x[1:]])
    assert (found.name, found.units) == ("1", 3)
    assert found.dead == pytest.approx(1 / 3)
    assert found.active == pytest.approx(3 / 6)
    assert found.mean == pytest.approx(1.0)
    assert found.std == pytest.approx(float(torch.tensor([1.0, 0, 0, 2, 3, 0]).std(correction=0)))


def test_a_module_used_twice_has_two_rows() -> None:
    model = build("cifar_resnet", (3, 8, 8), 10, depth=8)
    found = activities(model, [torch.randn(2, 3, 8, 8)])
    names = [row.name for row in found]
    assert names[:3] == ["relu", "layer1.0.relu", "layer1.0.relu#2"]
    assert [row.units for row in found] == [16, 16, 16, 32, 32, 64, 64]
    assert model.training


def test_what_cannot_be_watched_is_said() -> None:
    with pytest.raises(RegrowError, match="no activation modules"):
        activities(nn.Linear(2, 2), [torch.ones(1, 2)])
    with pytest.raises(RegrowError, match="from three on"):
        top_eigenvalue(Surface(nn.Linear(1, 1), (torch.ones(1, 1), torch.ones(1, 1)), loss=nn.functional.mse_loss))
    with pytest.raises(RegrowError, match="at least 2"):
        trace(Surface(nn.Linear(3, 2), (torch.ones(1, 3), torch.tensor([0]))), probes=1)
