"""Whole convolutional networks on the sparse backend: layouts, law 6, determinism, resumption, unknown modules."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.execution import images
from regrow.execution.sparse_conv import SparseConv2d
from regrow.sparsifier import Sparsifier
from regrow.train import models

Run = tuple[nn.Module, torch.optim.Optimizer, Sparsifier]


class Unknown(nn.Module):
    """A block that nobody has told us of: works in place, splits, concatenates, multiplies, has functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.wide, self.group = nn.Conv2d(8, 8, (1, 3), padding="same", padding_mode="reflect"), nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(self.norm(x).relu_()).chunk(2, 1)
        out = torch.cat((right * 1.5, nn.functional.silu(left)), 1)
        out = out * torch.sigmoid(out.mean((2, 3), keepdim=True))
        out += x
        return nn.functional.max_pool2d(self.group(self.wide(nn.functional.pad(out, (1, 0, 0, 1)))), 2)


def unknown() -> nn.Module:
    head = (nn.Flatten(), nn.Linear(8 * 16, 4))
    stem = (nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    return nn.Sequential(*stem, Unknown(), nn.Dropout(0.0), *head)


def step(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)


class DenseLayer(nn.Module):
    """Takes all that came before it, as DenseNet's, with the concatenation in a method beside forward."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.step = step(inputs, 4)

    def joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)

    def forward(self, parts: list[Tensor]) -> Tensor:
        return self.step(self.joined(parts))  # type: ignore[no-any-return]


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: its own forward, the activation in it."""

    def forward(self, input: Tensor) -> Tensor:
        given = self.running_mean, self.running_var, self.weight, self.bias, self.training
        return nn.functional.batch_norm(input, *given, momentum=0.1, eps=self.eps).relu()  # type: ignore[arg-type]


class Excited(nn.Module):
    """As timm's mobile networks: squeeze and excitation, NormAct, a group norm by a function, a mean at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.deep = nn.Conv2d(3, 8, 3, padding=1), NormAct(8), nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.point, self.last, self.head = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(nn.functional.group_norm(self.deep(self.norm(self.stem(x))), 4))
        scale = self.excite(nn.functional.silu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = self.last(self.point(x * scale.sigmoid()))
        return self.head(x.mean([-2, -1]))  # type: ignore[no-any-return]


class Joining(nn.Module):
    """As DenseNet, Inception and U-Net put branches together, with functions for pooling and resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), DenseLayer(4), DenseLayer(8)
        self.left, self.right, self.down, self.up = step(12, 4, 1), step(12, 4), step(8, 8), step(16, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.stem(x)]
        for layer in (self.one, self.two):
            parts.append(layer(parts))
        x = torch.cat(parts, dim=1)
        x = torch.concat([self.left(x), self.right(nn.functional.avg_pool2d(x, 3, 1, 1))], -3)
        low = self.down(nn.functional.max_pool2d(x, 2))
        x = self.up(torch.cat((x, nn.functional.interpolate(low, scale_factor=2)), 1))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def separable() -> nn.Module:
    """As MobileNets and ResNeXts are: depthwise, pointwise, in two groups, and twice as many outputs as channels."""

    def block(inputs: int, outputs: int, groups: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=groups == 2)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]

    body = (*block(8, 8, 8, 2), *block(8, 12, 1, kernel=1), *block(12, 24, 12), *block(24, 8, 2))
    return nn.Sequential(*block(3, 8, 1), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


GROUPS_DENSE = {"exclude": ["3", "9", "12"]}
"""As most who make MobileNets sparse have it."""


def resnet() -> nn.Module:
    return models.build("resnet18", (3, 8, 8), 4, width=4)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet,
    "resnet50": lambda: models.build("resnet50", (3, 8, 8), 4, width=2),
    "wrn": lambda: models.build("wrn", (3, 8, 8), 4, depth=10, width=1),
    "cnn": lambda: models.build("cnn", (3, 8, 8), 4, widths=(4, 8, 8)),
    "separable": separable,
    "joining": Joining,
    "excited": Excited,
    "unknown": unknown,
}
DRAW = torch.Generator().manual_seed(0)
BATCHES = [(torch.randn(6, 3, 8, 8, generator=DRAW), torch.randint(4, (6,), generator=DRAW)) for _ in range(3)]


def start(make: Callable[[], nn.Module], backend: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Run:
    torch.manual_seed(0)
    model = make().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    every = {} if changes.get("method") == "static" else {"every": 2}
    options = {"method": "rigl", "density": 0.3, "total_steps": 60} | every | changes
    return model, optimizer, regrow.sparsify(model, optimizer, backend=backend, **options)


def train(run: Run, steps: int, first: int = 0, layout: Callable[[Tensor], Tensor] = Tensor.contiguous) -> None:
    model, optimizer, _ = run
    kind = next(model.parameters()).dtype
    for step in range(first, first + steps):
        x, y = BATCHES[step % 3]
        cross_entropy(model(layout(x.to(kind))), y).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if name != "resnet50"]
)  # which is chaotic at this size: dense as well
def test_backends_decide_alike(name: str, double: None) -> None:
    """Law 6, in float64, through twenty updates; and training and evaluation give the same numbers."""
    runs = [start(NETWORKS[name], backend, torch.float64) for backend in ("masked", "sparse")]
    for run in runs:
        train(run, 40)
    assert runs[0][2].last_update == runs[1][2].last_update
    assert runs[0][2].topology == runs[1][2].topology
    ours, theirs = (run[0].eval() for run in reversed(runs))
    for p, q in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q)
    x = BATCHES[0][0].double()
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_train_as_dense_does(name: str) -> None:
    """float32, on a fixed topology, from an input of any layout."""
    steps = 1 if name == "resnet50" else 3
    dense = start(NETWORKS[name], "masked", method="static")
    train(dense, steps)
    for layout in (Tensor.contiguous, images.lanes, lambda x: x.contiguous(memory_format=torch.channels_last)):
        run = start(NETWORKS[name], "sparse", method="static")
        train(run, steps, layout=layout)
        for (key, p), q in zip(run[0].state_dict().items(), dense[0].state_dict().values(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-3, msg=key)


def test_a_known_network_stays_in_lanes_from_its_first_convolution_to_its_last_layer() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NETWORKS if name != "unknown"]
    for name, dense in [*cases, ("separable", GROUPS_DENSE)]:
        model, _, _ = start(NETWORKS[name], "sparse", **dense)
        seen: list[str] = []

        def look(module: nn.Module, inputs: tuple[Any, ...], key: str, seen: list[str] = seen) -> None:
            if not images.is_lanes(inputs[0]):
                seen.append(key)

        for key, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d | SparseConv2d | nn.AdaptiveAvgPool2d):
                module.register_forward_pre_hook(lambda m, i, key=key, look=look: look(m, i, key))
        model(BATCHES[0][0])
        first = next(key for key, module in model.named_modules() if isinstance(module, nn.Conv2d))
        assert set(seen) <= {first}, name


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_resumed_bit_for_bit(method: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        make = resnet if threads == 1 else NETWORKS["cnn"]  # on a busy machine two threads wait for one another
        whole, part = (start(make, "sparse", method=method) for _ in range(2))
        train(whole, 9)
        train(part, 5)
        file = io.BytesIO()
        torch.save([thing.state_dict() for thing in (part[2], part[0], part[1])], file)
        file.seek(0)
        again = start(make, "sparse", method=method)
        states = torch.load(file, weights_only=False)
        for thing, state in zip((again[2], again[0], again[1]), states, strict=True):
            thing.load_state_dict(state)
        train(again, 4, first=5)
    finally:
        torch.set_num_threads(before)
    assert whole[2].topology == again[2].topology
    assert all(map(torch.equal, whole[0].state_dict().values(), again[0].state_dict().values()))


@pytest.mark.parametrize("make", [resnet, separable, Joining, Excited])
def test_the_model_is_the_plain_one_to_everybody_else(make: Callable[[], nn.Module]) -> None:
    plain = make()
    model, optimizer, sparsifier = start(make, "sparse")
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [p.shape for p in model.state_dict().values()] == [p.shape for p in plain.state_dict().values()]
    train((model, optimizer, sparsifier), 3)
    copied = copy.deepcopy(model)
    assert [type(m) for m in copied.modules()] == [type(m) for m in plain.modules()]
    x = BATCHES[0][0]
    for net in (model, copied):
        net.eval()
    wanted = copied(x)
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    sparsifier.finalize()
    assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
    torch.testing.assert_close(model(x), wanted)


@pytest.mark.parametrize("name", ["wrn", "joining"])
def test_compiled_equals_eager(name: str) -> None:
    model, _, _ = start(NETWORKS[name], "sparse", method="static")
    x, y = BATCHES[0]
    ends = []
    for run in (model, torch.compile(model, backend="aot_eager")):
        state = copy.deepcopy(model.state_dict())
        cross_entropy(run(x), y).backward()
        ends.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        model.load_state_dict(state)
    torch.testing.assert_close(*ends)


def test_under_autocast() -> None:
    run = start(resnet, "sparse")
    with torch.autocast("cpu", torch.bfloat16):
        train(run, 4)
    assert {p.dtype for p in run[0].parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in run[0].parameters())


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        ("resnet18", {"overrides": {"conv1.weight": 1.0}, "exclude": ["layer2.*", "layer4.1.conv2"]}),
        ("separable", {"overrides": {"0.weight": 1.0, "12.weight": 1.0}, "exclude": ["3"], "density": 0.9}),
        ("separable", GROUPS_DENSE),
    ],
)
def test_dense_layers_among_sparse_ones(name: str, dense: dict[str, Any]) -> None:
    make = NETWORKS[name]
    ours, theirs = (start(make, backend, method="static", **dense) for backend in ("sparse", "masked"))
    for run in (ours, theirs):
        train(run, 3)
    for p, q in zip(ours[0].state_dict().values(), theirs[0].state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-3)
