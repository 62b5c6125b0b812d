"""ToST's tweaks as its published code computes them: soft neurons, smoothed labels, ghost skips, GradInit."""

from __future__ import annotations

import pytest
import torch
from replay import Golden
from torch import Tensor, nn

from regrow.core.topology import Topology
from regrow.train.models.resnet import BasicBlock
from regrow.tweaks import Context, GhostSkip, LabelSmoothing, RescaledInit, SoftActivation

GOLDEN = Golden("tost")


def close(ours: Tensor | None, theirs: str, atol: float = 1e-10) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, GOLDEN[theirs], rtol=0, atol=atol)


@pytest.mark.parametrize("beta", ["0.5", "1", "2", "3", "10"])
def test_soft_neurons(beta: str) -> None:
    model = nn.Sequential(nn.ReLU())
    SoftActivation(start=float(beta)).attach(model, Context(Topology({}, {})))
    x = GOLDEN["pswish/x"].requires_grad_()
    y = model(x)
    y.sum().backward()
    close(y, f"pswish/beta{beta}/y")
    close(x.grad, f"pswish/beta{beta}/grad")


def test_smoothed_labels() -> None:
    """Their share alpha goes to the other classes: torch's is alpha K / (K - 1)."""
    logits, labels, alpha = GOLDEN["ls/logits"].requires_grad_(), GOLDEN["ls/labels"], float(GOLDEN["ls/alpha"])
    loss = LabelSmoothing(start=alpha, stop=alpha).loss(nn.functional.cross_entropy, 0.0)(logits, labels)
    loss.backward()
    close(loss, "ls/loss", 1e-6)
    close(logits.grad, "ls/grad", 1e-6)
    same = nn.functional.cross_entropy(logits, labels, label_smoothing=alpha * 10 / 9)
    torch.testing.assert_close(loss, same)


def ours_of(name: str) -> str:
    """conv_jump1.weight -> conv1.ghost.dense.weight, conv_jump1_bn.bias -> conv1.ghost.norm.bias."""
    if name.startswith("conv_jump"):
        jump, leaf = name.split(".")
        return f"conv{jump[9]}.ghost.{'norm' if jump.endswith('_bn') else 'dense'}.{leaf}"
    return name.replace("shortcut", "downsample")


BLOCKS = {"b0": (4, 4, 1), "b1": (4, 6, 2), "b2": (3, 5, 1)}


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("jump", ["const", "random"])
@pytest.mark.parametrize("block", BLOCKS)
def test_ghost_skips_of_a_basic_block(block: str, jump: str, alpha: float) -> None:
    model = BasicBlock(*BLOCKS[block]).double()
    sites = {name: p for name, p in model.named_parameters() if p.dim() == 4}
    context = Context(Topology.from_masks(sites))
    skip = GhostSkip(start=alpha, include=("conv?",), constant=1e-4)
    skip.attach(model, context)
    skip.at(0.0)
    if block == "b2":
        SoftActivation(start=2.0).attach(model, context)
    start = f"ghost/{block}/param/"
    state = {ours_of(key.removeprefix(start)): GOLDEN[key] for key in GOLDEN.arrays if key.startswith(start)}
    if jump == "random":
        state |= {f"conv{j}.ghost.dense.weight": GOLDEN[f"ghost/{block}/random_conv_jump{j}"] for j in (1, 2)}
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all("running" in key or "tracked" in key for key in missing.missing_keys)
    x = GOLDEN[f"ghost/{block}/x"].requires_grad_()
    y = model(x)
    y.square().sum().backward()
    at = f"ghost/{block}/{jump}/alpha{alpha:g}"
    close(y, f"{at}/y")
    close(model.conv1.weight.grad, f"{at}/g_conv1", 1e-9)
    if alpha != 0.5:
        close(x.grad, f"{at}/gx", 1e-9)
    if alpha:  # a branch that counts for nothing is not computed
        close(model.get_buffer("conv1.ghost.norm.running_var"), f"{at}/jump1_bn_running_var")


CASES = {"plain": (12, 4, True), "free": (8, 4, False), "masked": (8, 4, True)}


@pytest.mark.parametrize("case", CASES)
def test_gradinit(case: str) -> None:
    """Their look-ahead steps into removed weights too, so the masked case is replayed without a mask."""
    iterations, width, normalise = CASES[case]
    layers = [nn.Conv2d(3, width, 3, padding=1, bias=case != "masked"), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, width + 1, 3, stride=2, bias=False), nn.BatchNorm2d(width + 1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width + 4, 5)]
    model = nn.Sequential(*layers).double()
    model.load_state_dict(
        {n: GOLDEN[f"gradinit/{case}/param_in/{n}"] for n, _ in model.named_parameters()}, strict=False
    )
    tweak = RescaledInit(iterations=iterations, gamma=float(GOLDEN[f"gradinit/{case}/gamma"]), normalise=normalise)
    batches = [*zip(GOLDEN[f"gradinit/{case}/batch_x"], GOLDEN[f"gradinit/{case}/batch_y"], strict=True)]
    tweak.attach(model, Context(Topology({}, {}), batches=batches, loss=nn.functional.cross_entropy))
    ours = torch.tensor([tweak.scales[str(name)] for name in GOLDEN.arrays[f"gradinit/{case}/names"]]).double()
    torch.testing.assert_close(ours, GOLDEN[f"gradinit/{case}/alpha_trace"][-1], rtol=0, atol=1e-6)
    for name, parameter in model.named_parameters():
        close(parameter.detach(), f"gradinit/{case}/param_out/{name}", 1e-6)
