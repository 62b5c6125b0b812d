"""Models have the weights of the papers, take the shapes they say, and refuse the rest in one clear error."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.train.models import MODELS, build

SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "mlp": ((1, 8, 8), {"hidden": [16, 8]}),
    "small_mlp": ((1, 8, 8), {"hidden": [16, 8], "density": 0.5}),
    "treenet": ((1, 8, 8), {"hidden": [16, 8]}),
    "batch_ensemble": ((1, 8, 8), {"hidden": [16, 8]}),
    "mimo": ((1, 8, 8), {"hidden": [16, 8]}),
    "lenet300": ((64,), {}),
    "cnn": ((3, 8, 8), {}),
    "lenet5": ((1, 28, 28), {}),
    "vgg16": ((1, 32, 32), {}),
    "vgg16_c": ((3, 32, 32), {}),
    "vgg16_d": ((3, 64, 32), {}),
    "resnet18": ((1, 8, 8), {"width": 8}),
    "resnet34": ((3, 32, 32), {"width": 8, "stem": "imagenet"}),
    "resnet50": ((3, 16, 16), {"width": 8}),
    "cifar_resnet": ((3, 8, 8), {"depth": 8}),
    "mobilenet_v1": ((3, 16, 16), {}),
    "mobilenet_v2": ((3, 8, 8), {}),
    "vit": ((3, 8, 12), {"width": 16, "depth": 2, "heads": 2}),
    "wrn": ((3, 16, 16), {"depth": 10, "width": 1, "dropout": 0.3}),
    "wrn28_10": ((3, 8, 8), {}),
}


def on_meta(name: str, shape: tuple[int, ...], classes: int, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return build(name, shape, classes, **options)


def sites(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


# Masked weights and layers of the reference implementations (methods.md 1.2; equal, in order, to golden/erk_densities)
@pytest.mark.parametrize(
    ("name", "size", "classes", "options", "weights", "layers"),
    [
        ("mlp", 32, 10, {"hidden": [1024, 512]}, 3_675_136, 3),
        ("vgg16", 32, 10, {}, 14_977_728, 15),
        ("vgg16_d", 32, 10, {}, 15_239_872, 16),
        ("resnet34", 32, 100, {}, 21_311_168, 37),
        ("resnet50", 32, 100, {}, 23_652_032, 54),
        ("resnet50", 224, 1000, {}, 25_502_912, 54),
        ("wrn28_10", 32, 10, {}, 36_461_232, 29),
        ("wrn28_10", 32, 100, {}, 36_518_832, 29),
    ],
)
def test_published_totals(
    name: str, size: int, classes: int, options: dict[str, Any], weights: int, layers: int
) -> None:
    model = on_meta(name, (3, size, size), classes, **options)
    shapes = sites(model)
    assert (sum(torch.Size(shape).numel() for shape in shapes), len(shapes)) == (weights, layers)
    assert model(torch.zeros(2, 3, size, size, device="meta")).shape == (2, classes)


def test_weight_shapes_of_resnet50_and_wrn28_10() -> None:
    resnet = Counter(sites(on_meta("resnet50", (3, 224, 224), 1000)))
    assert resnet[64, 3, 7, 7] == resnet[1000, 2048] == resnet[64, 64, 1, 1] == 1
    assert [resnet[width, width, 3, 3] for width in (64, 128, 256, 512)] == [3, 4, 6, 3]
    assert [resnet[4 * width, width, 1, 1] for width in (64, 128, 256, 512)] == [4, 4, 6, 3]
    assert [resnet[width, 4 * width, 1, 1] for width in (64, 128, 256, 512)] == [2, 3, 5, 2]
    assert [resnet[4 * width, 2 * width, 1, 1] for width in (128, 256, 512)] == [1, 1, 1]
    wide = Counter(sites(on_meta("wrn28_10", (3, 32, 32), 10)))
    assert [wide[width, width, 3, 3] for width in (160, 320, 640)] == [7, 7, 7]
    assert wide[16, 3, 3, 3] == wide[160, 16, 1, 1] == wide[320, 160, 1, 1] == wide[640, 320, 1, 1] == 1


def test_parameter_counts_of_torchvision_and_lenet() -> None:
    counts = {
        ("resnet18", (3, 224, 224), 1000): 11_689_512,
        ("resnet34", (3, 224, 224), 1000): 21_797_672,
        ("resnet50", (3, 224, 224), 1000): 25_557_032,
        ("mobilenet_v1", (3, 224, 224), 1000): 4_231_976,
        ("mobilenet_v2", (3, 224, 224), 1000): 3_504_872,
        ("lenet300", (1, 28, 28), 10): 266_610,
        ("lenet5", (1, 28, 28), 10): 431_080,
    }
    for (name, shape, classes), count in counts.items():
        assert sum(p.numel() for p in on_meta(name, shape, classes).parameters()) == count


def test_cifar_resnets_have_the_layers_and_millions_of_parameters_of_their_paper() -> None:
    """He et al. 2015, table 6, and 2.8 thousand for the shortcuts of option B."""
    for depth, millions in ((20, 0.27), (32, 0.46), (56, 0.85), (110, 1.7)):
        model = on_meta("cifar_resnet", (3, 32, 32), 10, depth=depth)
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        assert len(layers) == depth + 2
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions + 0.0028, abs=0.04)
    wide = on_meta("cifar_resnet", (3, 32, 32), 10, depth=104, width=2)
    assert wide.get_parameter("layer3.16.conv2.weight").shape == (128, 128, 3, 3)


def test_resnet_has_torchvision_parameter_names() -> None:
    names = set(on_meta("resnet18", (3, 224, 224), 1000).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer2.0.downsample.1.bias",
        "layer4.1.conv2.weight",
        "fc.bias",
    } <= names
    assert len(names) == 122


@pytest.mark.parametrize("name", sorted(MODELS))
def test_forward_and_backward(name: str) -> None:
    shape, options = SMALL[name]
    if name == "wrn28_10":  # too large to run here
        assert on_meta(name, shape, 7)(torch.zeros(2, *shape, device="meta")).shape == (2, 7)
        return
    model = build(name, shape, 7, **options)
    loss: Tensor = model(torch.randn(2, *shape)).square().sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_initial_weights_follow_the_global_seed_and_kaiming() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return build("resnet18", (3, 8, 8), 10).get_parameter("layer4.1.conv2.weight")

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
    assert first.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_the_stem_follows_the_image_unless_given() -> None:
    assert sites(on_meta("resnet18", (3, 64, 64), 10))[0] == (64, 3, 3, 3)
    assert sites(on_meta("resnet18", (3, 224, 224), 10))[0] == (64, 3, 7, 7)
    assert sites(on_meta("resnet18", (1, 224, 224), 10, stem="cifar"))[0] == (64, 1, 3, 3)


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("resnet81", (3, 32, 32), {}, "did you mean 'resnet18'"),
        ("mlp", (64,), {"hiden": [3]}, "did you mean 'hidden'"),
        ("lenet300", (64,), {"hidden": [3]}, "Its options: none"),
        ("mlp", (64,), {"hidden": [0]}, "positive whole numbers"),
        ("vgg16", (1, 28, 28), {}, "at least 32x32"),
        ("lenet5", (1, 8, 8), {}, "at least 16x16"),
        ("resnet18", (64,), {}, "`mlp` takes any shape"),
        ("resnet18", (3, 32, 32), {"stem": "cifr"}, "did you mean 'cifar'"),
        ("wrn", (3, 32, 32), {"depth": 17}, "6 n \\+ 4"),
        ("cifar_resnet", (3, 32, 32), {"depth": 18}, "6 n \\+ 2"),
        ("vit", (3, 32, 30), {}, "patch=4 does not divide images of 32x30"),
        ("vit", (3, 32, 32), {"heads": 5}, "heads=5 does not divide width=256"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    name: str, shape: tuple[int, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(RegrowError, match=words):
        build(name, shape, 10, **options)


def test_timm_is_asked_for_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if not installed
    with pytest.raises(RegrowError, match=r"pip install 'regrow\[vision\]'"):
        build("timm:resnet18", (3, 32, 32), 10)
