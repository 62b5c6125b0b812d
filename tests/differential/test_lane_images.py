"""Images in lanes through normalisation, pooling and blocks, against torch's own on NCHW."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

from regrow.execution import images
from regrow.execution.batch_norm_ops import batch_norm, batch_normed
from regrow.execution.lane_layers import LaneConv2d, RowConv2d
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.swap import give_back, take_over
from regrow.train import models

pytestmark = pytest.mark.usefixtures("isa")


LAYOUTS = {
    "lanes": images.lanes,
    "rows": Tensor.contiguous,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "permuted": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand_as(x),
    "pixels alike": lambda x: x[:, :, :1, :1].expand_as(x),
}


def lanes(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return images.lanes((torch.randn(shape) * 3 + 1).to(dtype))


def agree(ours: nn.Module, theirs: nn.Module, x: Tensor, atol: float = 2e-4, grad: Tensor | None = None) -> Tensor:
    """Outputs, gradients and buffers are torch's; returns the output."""
    mine, rows = x.detach().requires_grad_(), x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    y, wanted = ours(mine), theirs(rows)
    grad = torch.randn_like(wanted) if grad is None else grad
    y.backward(grad)
    wanted.backward(grad)
    close = {"rtol": 2e-4, "atol": atol}
    torch.testing.assert_close(y, wanted, **close, check_stride=False)
    torch.testing.assert_close(mine.grad, rows.grad, **close)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        scale = max(1.0, float(q.grad.abs().max()))  # type: ignore[union-attr]
        torch.testing.assert_close(p.grad / scale, q.grad / scale, **close, msg=name)  # type: ignore[operator]
    for p, q in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(p, q, **close)
    return y


def pair(theirs: nn.Module) -> tuple[nn.Module, nn.Module]:
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    ours = copy.deepcopy(theirs)
    assert take_over(ours)
    return ours, theirs


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}], ids=str
)
def test_batch_norm(options: dict[str, Any], layout: str) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(nn.BatchNorm2d(5, **options))
    for _ in range(2):
        y = agree(ours, theirs, LAYOUTS[layout](torch.randn(6, 5, 4, 3)))
        assert in_image_lanes(y) == (layout == "lanes")
    for layer in (ours, theirs):
        layer.eval().zero_grad()
    x = LAYOUTS[layout](torch.randn(6, 5, 4, 3))
    agree(ours, theirs, x)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), check_stride=False)


@pytest.mark.parametrize("size", [(2, 1, 1, 1), (3, 7, 5, 3), (16, 4, 1, 1), (1, 3, 4, 4), (130, 2, 9, 8)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_size_and_any_layout_of_the_gradient(size: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(nn.Sequential(nn.BatchNorm2d(size[1]), nn.ReLU()))
    agree(ours, theirs, lanes(*size), atol=1e-3, grad=LAYOUTS[layout](torch.randn(size)))


def test_too_few_values_get_torchs_error() -> None:
    ours, _ = pair(nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="more than 1 value"):
        ours(lanes(1, 3, 1, 1))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_in_one_pass_as_in_three(added: bool, relu: bool) -> None:
    torch.manual_seed(0)
    x, add = lanes(6, 5, 4, 4), lanes(6, 5, 4, 4)
    (ours,), (theirs,) = (m for m in pair(nn.Sequential(nn.BatchNorm2d(5))))  # type: ignore[misc]

    def separate(x: Tensor, add: Tensor) -> Tensor:
        y = theirs(x) + add if added else theirs(x)
        return y.relu() if relu else y

    leaves = [[t.clone().requires_grad_() for t in (x, add)] for _ in range(2)]
    ys = [ours.then(leaves[0][0], leaves[0][1] if added else None, relu), separate(*leaves[1])]  # type: ignore[operator]
    torch.testing.assert_close(*ys, check_stride=False)
    grad = torch.randn_like(ys[0])
    for y in ys:
        y.backward(grad)
    for mine, other in zip(*leaves, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_gradcheck_in_float64(added: bool, relu: bool) -> None:
    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64).t().contiguous().t().requires_grad_()

    x, add, weight, bias = leaf(6, 4), leaf(6, 4) if added else None, leaf(4), leaf(4)
    assert torch.autograd.gradcheck(lambda *a: batch_norm(*a[:3], 1e-3, a[3], relu)[0], (x, weight, bias, add))
    x = lanes(3, 4, 2, 2, dtype=torch.float64).requires_grad_()
    add = lanes(3, 4, 2, 2, dtype=torch.float64).requires_grad_() if added else None
    assert torch.autograd.gradcheck(lambda *a: batch_norm(*a[:3], 1e-3, a[3], relu)[0], (x, weight, bias, add))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    x, add = (lanes(3, 5, 2, 2, dtype=dtype).requires_grad_() for _ in range(2))
    weight, bias = (torch.randn(5, dtype=dtype, requires_grad=True) for _ in range(2))
    opcheck(torch.ops.regrow.batch_norm, (x, add, weight, bias, 1e-5, True))
    opcheck(torch.ops.regrow.batch_norm, (x, None, None, None, 1e-5, False))
    plain = [t.detach() for t in (x, weight, bias)]
    y, mean, var = batch_norm(*plain, 1e-5)
    torch.testing.assert_close(batch_normed(plain[0], mean, var, *plain[1:], 1e-5), y)
    schemas = {"test_utils": ("test_schema", "test_faketensor")}
    opcheck(torch.ops.regrow.batch_normed, (plain[0], None, mean, var, *plain[1:], 1e-5, True), **schemas)
    for out in (y, None):
        opcheck(
            torch.ops.regrow.batch_norm_backward,
            (plain[0].clone(), plain[0], out, mean, var, *plain[1:], 1e-5, True),
            **schemas,
        )


def test_bfloat16_as_autocast_has_it() -> None:
    torch.manual_seed(0)
    ours, theirs = pair(nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()))
    x = lanes(8, 5, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y, wanted = ours(x), theirs(x)
    assert y.dtype == wanted.dtype
    torch.testing.assert_close(y, wanted, rtol=0.05, atol=0.05, check_stride=False)


LAYERS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((3, 2)),
    nn.AdaptiveMaxPool2d(2),
    nn.Upsample(scale_factor=2),
    nn.Upsample(size=(5, 9), mode="bilinear"),
    nn.GroupNorm(5, 5),
    nn.GroupNorm(1, 5, affine=False),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_other_layers(layer: nn.Module, layout: str) -> None:
    torch.manual_seed(0)
    y = agree(*pair(copy.deepcopy(layer)), LAYOUTS[layout](torch.randn(6, 5, 8, 8)))
    assert images.is_lanes(y) or layout != "lanes"


def test_a_pool_with_indices_is_torchs() -> None:
    ours, theirs = pair(nn.MaxPool2d(2, return_indices=True))
    x = lanes(3, 4, 6, 6)
    for mine, other in zip(ours(x), theirs(x), strict=True):
        assert torch.equal(mine, other)
    one = torch.randn(4, 6, 6)  # without a batch
    assert torch.equal(ours(one)[0], theirs(one)[0])


@pytest.mark.parametrize("kind", [RowConv2d, LaneConv2d])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_convolutions(kind: type[nn.Conv2d], layout: str) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(3, 4, 3, padding=1)
    ours = copy.deepcopy(theirs)
    ours.__class__ = kind
    y = agree(ours, theirs, LAYOUTS[layout](torch.randn(6, 3, 5, 5)))
    assert in_image_lanes(y) == (kind is LaneConv2d)
    assert type(copy.deepcopy(ours)) is nn.Conv2d
    torch.testing.assert_close(ours(torch.ones(3, 5, 5)), theirs(torch.ones(3, 5, 5)))


BLOCKS: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 4},
    "resnet50": {"width": 4},
    "wrn": {"depth": 10, "width": 1, "dropout": 0.0},
    "cnn": {"widths": (4, 6, 6)},
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_with_fewer_passes(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(models.build(name, (3, 16, 16), 5, **BLOCKS[name]).double())
    x = lanes(4, 3, 16, 16, dtype=torch.float64)
    assert {type(m).__name__ for m in theirs.modules()} & {"BasicBlock", "Bottleneck", "WideBlock", "Sequential"}
    agree(ours, theirs, x)
    for model in (ours, theirs):
        model.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_hooks_see_what_they_always_saw() -> None:
    theirs = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    ours, theirs = pair(theirs)
    x = lanes(5, 4, 3, 3)
    seen: list[list[Tensor]] = [[], []]
    for model, into in zip((ours, theirs), seen, strict=True):
        for layer in model:  # type: ignore[attr-defined]
            layer.register_forward_hook(lambda m, i, o, into=into: into.append(o.clone()))
        model(x)
    torch.testing.assert_close(*seen, check_stride=False)


def test_an_activation_of_another_kind_is_respected() -> None:
    ours, theirs = pair(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()))
    for model in (ours, theirs):
        model[1] = nn.GELU()  # type: ignore[index]
    agree(ours, theirs, lanes(5, 4, 3, 3))


def test_copies_are_plain_and_what_was_taken_is_given_back() -> None:
    model = models.build("resnet18", (3, 16, 16), 5, width=4)
    kinds = [type(m) for m in model.modules()]
    changed = take_over(model)
    assert take_over(model) == []
    assert [type(m) for m in copy.deepcopy(model).modules()] == kinds
    assert all(isinstance(m, kind) for m, kind in zip(model.modules(), kinds, strict=True))
    give_back(changed)
    assert [type(m) for m in model.modules()] == kinds
