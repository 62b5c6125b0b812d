"""Networks for inference alone: batch normalisation folded into the layers before."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regrow.core.errors import RegrowError
from regrow.lab.fold import without_norms
from regrow.train import models


def seasoned(model: nn.Module) -> nn.Module:
    """With statistics and parameters as training leaves them; in eval mode, float64."""
    draw = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5, generator=draw)
    return model.double().eval()


def norms(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]


def agree(made: nn.Module, model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(made(x), model(x), rtol=1e-9, atol=1e-9)


IMAGES = torch.randn(3, 3, 16, 16, dtype=torch.float64)
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 4},
    "resnet50": {"width": 2},
    "cnn": {"widths": (4, 6, 6)},
    "mobilenet_v2": {},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_left_and_the_answers_are_the_same(name: str) -> None:
    model = seasoned(models.build(name, (3, 16, 16), 5, **NETWORKS[name]))
    before = copy.deepcopy(model.state_dict())
    made = without_norms(model)
    assert norms(made) == []
    agree(made, model, IMAGES)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
    again = without_norms(models.build(name, (3, 16, 16), 5, **NETWORKS[name]).double())
    again.load_state_dict(made.state_dict())
    agree(again, made, IMAGES)


def test_what_comes_before_its_layer_stays() -> None:
    model = seasoned(models.build("wrn", (3, 16, 16), 5, depth=10, width=1))
    made = without_norms(model)
    assert 0 < len(norms(made)) < len(norms(model))
    agree(made, model, IMAGES)


def test_zeros_stay_zeros() -> None:
    layer = nn.Linear(6, 8)
    layer.weight.data.clamp_min_(0)
    made = without_norms(seasoned(nn.Sequential(layer, nn.BatchNorm1d(8)))).get_parameter("0.weight")
    assert torch.equal(made == 0, layer.weight == 0)


class Network(nn.Module):
    """Four normalisations that must stay: what they take is read twice, called twice, comes of a layer called twice,
    or is normalised by its own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(4, 4) for _ in range(5))
        self.read, self.called, self.of_shared, self.good = (nn.BatchNorm1d(4) for _ in range(4))
        self.own = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        x = self.read(y) + y
        x = self.called(self.called(self.b(x)))
        x = self.of_shared(self.c(self.c(x)))
        return self.good(self.e(self.own(self.d(x))))  # type: ignore[no-any-return]


def test_only_where_nothing_else_reads_the_layer() -> None:
    model = seasoned(Network())
    made = without_norms(model)
    assert norms(made) == ["read", "called", "of_shared", "own"]
    agree(made, model, torch.randn(5, 4, dtype=torch.float64))


class Chooses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_refusals() -> None:
    with pytest.raises(RegrowError, match="nothing to fold"):
        without_norms(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4)))
    with pytest.raises(RegrowError, match=r"torch\.fx cannot follow"):
        without_norms(Chooses())
