"""The tweaks by hand: their formulas, the shapes of ghosts, the promises of the re-scaled initialisation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrow import RegrowError
from regrow.core.topology import Topology
from regrow.train import models
from regrow.tweaks import TWEAKS, Context, GhostSkip, LabelSmoothing, RescaledInit, SoftActivation, build, is_ghost
from regrow.tweaks.branch import Branch
from regrow.tweaks.scales import LookAhead, Scaled
from regrow.tweaks.soft_activation import SOFT

NOTHING = Context(Topology({}, {}))


@pytest.mark.parametrize("beta", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("kind", SOFT)
def test_soft_neurons_harden(kind: str, beta: float) -> None:
    model = nn.Sequential(nn.ReLU(inplace=True))
    tweak = SoftActivation(kind=kind, start=beta)
    tweak.attach(model, NOTHING)
    x = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    off = (model(x.clone()) - x.clamp(min=0)).abs().max()
    bounds = {"swish": 0.28, "mish": 0.31, "gelu": 0.17, "softplus": 0.6932, "elu": 1.0}
    assert 0.98 * bounds[kind] < beta * off <= 1.0001 * bounds[kind]
    tweak.detach()
    assert type(model[0]) is nn.ReLU
    assert model[0].inplace


@pytest.mark.parametrize("beta", [1.0, 20.0])
def test_relu6_is_the_difference_of_two(beta: float) -> None:
    model = nn.Sequential(nn.ReLU6(inplace=True))
    tweak = SoftActivation(start=beta)
    tweak.attach(model, NOTHING)
    x = torch.linspace(-9, 15, 1001, dtype=torch.float64)
    relu6 = nn.functional.relu6(x)
    torch.testing.assert_close(model(x.clone()), x * (beta * x).sigmoid() - (x - 6) * (beta * (x - 6)).sigmoid())
    assert (model(x.clone()) - relu6).abs().max() <= 0.56 / beta
    tweak.detach()
    assert type(model[0]) is nn.ReLU6
    assert torch.equal(model(x.clone()), relu6)


def test_mobilenet_v2_is_soft_everywhere() -> None:
    model = models.build("mobilenet_v2", (3, 8, 8), 10)
    tweak = SoftActivation()
    tweak.attach(model, NOTHING)
    assert "35 ReLU modules are soft" in tweak.note()
    assert not [m for m in model.modules() if type(m) is nn.ReLU6]


class Functional(nn.Module):
    """Some activations are modules, some are not."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.act = nn.ReLU() if relu else nn.Identity()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.act(torch.relu(self.first(x))))
        return out


def test_relu_called_as_a_function_is_named() -> None:
    where = r"function, as it is in itself \(Functional\), layer \(TransformerEncoderLayer\)"
    with pytest.warns(UserWarning, match=f"acts on 1 modules, but not where relu is called as a {where}: make"):
        SoftActivation().attach(Functional(relu=True), NOTHING)
    with pytest.raises(RegrowError, match=rf"finds nothing to act on.*replaced?{where[8:]}"):
        SoftActivation().attach(Functional(relu=False), NOTHING)
    SoftActivation().attach(models.build("resnet18", (3, 8, 8), 10, width=4), NOTHING)  # all of it modules, no warning


def test_beta_rises_to_its_last() -> None:
    model = nn.Sequential(nn.ReLU())
    tweak = SoftActivation(start=1.0, stop=9.0, until=0.5, course="cosine")
    tweak.attach(model, NOTHING)
    betas = []
    for progress in (0.0, 0.25, 0.5):
        tweak.at(progress)
        betas.append(model[0].beta)
    assert betas == pytest.approx([1.0, 5.0, 9.0])


CONVOLUTIONS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 8)),
    (nn.Conv2d(4, 6, 5), (4, 9, 8)),
    (nn.Conv2d(4, 6, 7, stride=2, padding=3), (4, 16, 16)),
    (nn.Conv2d(4, 6, 3, dilation=2, padding="same"), (4, 9, 8)),
    (nn.Conv2d(4, 6, 4, padding="valid"), (4, 9, 8)),
    (nn.Conv2d(4, 4, 1, padding=2), (4, 5, 5)),
    (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 5, 5)),
    (nn.Conv3d(2, 3, (3, 1, 2), padding=(1, 0, 0)), (2, 5, 4, 3)),
    (nn.Linear(5, 7), (5,)),
    (nn.Linear(5, 7), (3, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda value: str(value)[:44])
def test_a_branch_fits_its_layer(layer: Any, shape: tuple[int, ...]) -> None:
    x = torch.randn(4, *shape)
    for constant in (None, 1e-4):
        branch = Branch(layer, torch.Generator().manual_seed(1), False, constant)
        assert branch(x, layer(x)).shape == layer(x).shape
    assert branch.flops == 2 * branch.dense.weight.numel() * branch.positions
    assert branch.dense.weight.shape[2:].numel() == 1


@pytest.mark.parametrize(("layer", "shape"), [(nn.Conv2d(4, 4, 5), (4, 9, 9)), (nn.Linear(5, 5), (5,))])
def test_an_identity_has_no_parameters(layer: Any, shape: tuple[int, ...]) -> None:
    branch, x = Branch(layer, torch.Generator(), True, None), torch.randn(2, *shape)
    assert branch(x, layer(x)).shape == layer(x).shape
    assert not branch.state_dict()
    assert not branch.flops


class Depthwise(nn.Sequential):
    """What MobileNet is made of."""

    def __init__(self) -> None:
        wide = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        deep = [nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        point = [nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU()]
        super().__init__(*wide, *deep, *point, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


NETS: dict[str, tuple[Any, int, int]] = {
    "resnet18": (lambda: models.build("resnet18", (3, 8, 8), 10, width=4), 8, 20),
    "resnet50": (lambda: models.build("resnet50", (3, 8, 8), 10, width=4), 8, 53),
    "vgg16": (lambda: models.build("vgg16", (3, 32, 32), 10), 32, 14),
    "wrn": (lambda: models.build("wrn", (3, 8, 8), 10, depth=10, width=1), 8, 9),
    "depthwise": (Depthwise, 8, 3),
    "lenet": (lambda: models.build("lenet5", (3, 16, 16), 10), 16, 3),
}


@pytest.mark.parametrize("name", NETS)
def test_ghosts_of_networks(name: str) -> None:
    """Nothing at alpha 0, bit for bit; something before; gone after."""
    make, side, count = NETS[name]
    model = make()
    keys, x = [*model.state_dict()], torch.randn(2, 3, side, side)
    plain = copy.deepcopy(model)
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    tweak = GhostSkip()
    ghosts = tweak.attach(model, Context(Topology.from_masks(weights)))
    assert len({ghost.split(".ghost.")[0] for ghost in ghosts}) == count
    assert all(map(is_ghost, ghosts))
    tweak.at(tweak.until)
    assert torch.equal(model(x), plain(x))
    tweak.at(0.0)
    out = model(x)
    assert not torch.equal(out, plain(x))
    out.square().sum().backward()
    grads = [ghost.grad for ghost in ghosts.values()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert f"{count} branches, alpha 1" in tweak.note()
    tweak.detach()
    assert [*model.state_dict()] == keys
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.eval()(x), plain.eval()(x))


class Crossed(nn.Module):
    """Registered in another order than it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn1(self.conv2(self.bn2(self.conv1(x))) + 1)
        return out


def test_a_norm_that_does_not_follow_is_refused() -> None:
    model = Crossed()
    GhostSkip().attach(model, Context(Topology.full({"conv1.weight": (4, 1, 3, 3), "conv2.weight": (4, 4, 3, 3)})))
    with pytest.raises(RegrowError, match=r"after 'conv2' normalises something else.*exclude=\['conv2'\]"):
        model(torch.randn(2, 1, 8, 8))


def test_attention_calls_no_projection() -> None:
    model = nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 2))
    shapes = {"0.out_proj.weight": (8, 8), "1.weight": (2, 8)}
    with pytest.raises(RegrowError, match="ghost-skip' finds nothing to act on"):
        GhostSkip().attach(model, Context(Topology.full(shapes)))


def test_smoothing_is_torchs_or_tosts_and_fades() -> None:
    logits, labels = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 5
    ours = LabelSmoothing(start=0.2, stop=0.0, until=0.5, over="all")
    for progress, share in ((0.0, 0.2), (0.25, 0.1), (0.5, 0.0)):
        wanted = cross_entropy(logits, labels, label_smoothing=share)
        torch.testing.assert_close(ours.loss(cross_entropy, progress)(logits, labels), wanted)
    assert ours.loss(cross_entropy, 0.5) is cross_entropy
    others = LabelSmoothing(start=0.2).smoothed(labels, logits, 0.2)
    assert others[0].tolist() == pytest.approx([0.8, 0.05, 0.05, 0.05, 0.05])
    members = LabelSmoothing().smoothed(labels, logits.expand(3, 6, 5), 0.2)
    assert members.shape == (6, 5)
    with pytest.raises(RegrowError, match=r"needs class indices \[N\] for outputs \[N, K\]"):
        LabelSmoothing().loss(cross_entropy, 0.0)(logits, logits.softmax(-1))


def problem(seed: int = 0) -> tuple[nn.Sequential, Topology, list[tuple[Tensor, Tensor]]]:
    """A sparse network, badly scaled, and batches that can be learnt from."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    masks = {f"{at}.weight": torch.rand(model[at].weight.shape) < 0.3 for at in (0, 2, 4)}
    with torch.no_grad():
        model[0].weight.mul_(3)
    true = torch.randn(12, 4)
    inputs = torch.randn(9, 32, 12)
    return model, Topology.from_masks(masks), [(x, (x @ true).argmax(-1)) for x in inputs]


def masked(model: nn.Module, topology: Topology) -> dict[str, Tensor]:
    state = {name: p.detach() for name, p in model.named_parameters()}
    return state | {name: state[name] * mask for name, mask in topology.items()}


def look_ahead(model: nn.Module, topology: Topology, batches: list[tuple[Tensor, Tensor]], signs: bool) -> float:
    """The loss after one step, on batches that the scales have not seen."""
    start = masked(model, topology)
    net = Scaled(model, torch.ones(len(start), requires_grad=True), start, topology, cross_entropy, iter(batches))
    value, constraint = LookAhead(0.1 if not signs else 0.01, float("inf"), signs, True)(net)
    assert not constraint
    return value.item() * (0.1 if not signs else 0.01)


@pytest.mark.parametrize("step", ["sgd", "adam"])
def test_gradinit_keeps_its_promises(step: str) -> None:
    model, topology, batches = problem()
    first, start = look_ahead(model, topology, batches[6:], step == "adam"), copy.deepcopy(model)
    tweak = RescaledInit(step=step, iterations=100, lr=0.05, gamma=float("inf"), eta=0.01 if step == "adam" else 0.1)
    tweak.attach(model, Context(topology, batches=batches[:6], loss=cross_entropy))
    assert look_ahead(model, topology, batches[6:], step == "adam") < 0.95 * first
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, start.get_parameter(name) * tweak.scales[name])
        assert tweak.scales[name] >= (0.0 if name.endswith("bias") else 0.01)


def test_removed_weights_stay_removed_in_the_look_ahead() -> None:
    model, topology, batches = problem()
    start, seen = masked(model, topology), []
    net = Scaled(model, torch.ones(6, requires_grad=True), start, topology, cross_entropy, iter(batches))
    plain = net.loss
    net.loss = lambda tensors, *b: (seen.append(tensors), plain(tensors, *b))[1]  # type: ignore[func-returns-value, method-assign]
    LookAhead(0.1, float("inf"), False, False)(net)
    assert len(seen) == 2
    assert not any(seen[1][name][~mask].any() for name, mask in topology.items())
    assert any((seen[1][name] != seen[0][name]).any() for name in topology)


def test_the_floor_and_the_constraint() -> None:
    model, topology, batches = problem()
    context = Context(topology, batches=batches, loss=cross_entropy)
    tweak = RescaledInit(iterations=12, lr=0.3, gamma=1e-9, floor=0.2)  # nothing but the constraint, with huge steps
    tweak.attach(model, context)
    assert min(scale for name, scale in tweak.scales.items() if name.endswith("weight")) == pytest.approx(0.2)
    net = Scaled(
        model, torch.ones(6, requires_grad=True), masked(model, topology), topology, cross_entropy, iter(batches)
    )
    norm, constraint = LookAhead(0.1, 1e-9, False, True)(net)
    before = problem()[0]
    other = Scaled(before, net.alpha, masked(before, topology), topology, cross_entropy, iter(batches))
    assert constraint
    assert norm < LookAhead(0.1, 1e-9, False, True)(other)[0]


def test_fan_in_gives_every_output_its_strength() -> None:
    model, topology, _ = problem()
    before = masked(model, topology)
    RescaledInit(by="fan-in").attach(model, Context(topology))
    for name, mask in topology.items():
        ratio = (mask.shape[1] / mask.sum(1).clamp(min=1)).sqrt().unsqueeze(1)
        torch.testing.assert_close(model.get_parameter(name) * mask, before[name] * ratio)


def test_gradient_flow_evens_gradients() -> None:
    model, topology, batches = problem()

    def spread() -> float:
        tensors = {name: value.requires_grad_() for name, value in masked(model, topology).items()}
        net = Scaled(model, torch.ones(6), tensors, topology, cross_entropy, iter(batches))
        grads = net.gradients(tensors, *batches)
        return torch.stack([grads[n].square().sum() / mask.sum() for n, mask in topology.items()]).log().var().item()

    before = spread()
    RescaledInit(by="gradient-flow", iterations=60, lr=0.05).attach(
        model, Context(topology, batches=batches, loss=cross_entropy)
    )
    assert spread() < 0.2 * before


def test_the_model_is_left_as_it_was() -> None:
    """But for its scales: modes, running statistics, gradients, torch's generator."""
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    buffers = copy.deepcopy(dict(model.named_buffers()))
    context = Context(Topology.full({"0.weight": (8, 12)}), batches=problem()[2], loss=cross_entropy)
    state = torch.get_rng_state()
    RescaledInit(iterations=3).attach(model, context)
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", TWEAKS)
def test_built_by_name(name: str) -> None:
    assert build(name).name == name


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("ghost-skip", {"alpha": 1.0}, r"no hyper-parameter 'alpha'.* Valid: start, stop, until"),
        ("ghost-skip", {"until": 1.5}, r"until=1.5 is outside \(0, 1\]"),
        ("ghost-skip", {"until": "half"}, r"until is 'half', but should be like its own, 0.4"),
        ("soft-activation", {"stop": 0}, "beta is greater than 0"),
        ("soft-activation", {"kind": "swsh"}, "did you mean 'swish'"),
        ("soft-activation", {"course": "cubic"}, "unknown course 'cubic'"),
        ("label-smoothing", {"start": 1.0}, r"the share is in \[0, 1\)"),
        ("label-smoothing", {"over": "every"}, "unknown classes to smooth over 'every'"),
        ("rescaled-init", {"by": "gradint"}, "did you mean 'gradinit'"),
        ("rescaled-init", {"eta": 0.0}, "are > 0"),
        ("rescaled-init", {"until": 0.5}, "no hyper-parameter 'until'"),
    ],
)
def test_bad_settings(name: str, hyper: dict[str, Any], message: str) -> None:
    with pytest.raises(RegrowError, match=message):
        build(name, **hyper)
