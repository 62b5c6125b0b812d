"""LayerNorm and BatchNorm1d in lanes, against torch's own on rows."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.library import opcheck

import regrow
from regrow.execution import native
from regrow.execution.batch_norm_ops import batch_norm
from regrow.execution.lane_layers import LaneGroupNorm
from regrow.execution.lane_norms import LaneBatchNorm1d, LaneLayerNorm
from regrow.execution.norm_ops import in_lanes, layer_norm
from regrow.execution.rows import rows
from regrow.execution.swap import give_back, take_over

pytestmark = pytest.mark.usefixtures("isa")

SHAPES = [(2, 1), (3, 7), (16, 33), (130, 5), (67, 256), (2100, 9)]
CASES = [(nn.LayerNorm, {}), (nn.BatchNorm1d, {})]


def lanes(n: int, features: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(features, n) * 3 + 5).to(dtype).t()


def pair(make: Any, features: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """A layer that keeps lanes, and torch's, of equal parameters."""
    theirs = make(features, **options)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = nn.Sequential(copy.deepcopy(theirs))
    assert take_over(ours) == [ours[0]]
    return ours[0], theirs


def compare(ours: nn.Module, theirs: nn.Module, x: Tensor, rtol: float = 2e-4, atol: float = 2e-4) -> Tensor:
    """Outputs, gradients and buffers agree; returns the output in lanes."""
    mine, rows = x.detach().requires_grad_(), x.detach().contiguous().requires_grad_()
    y, wanted = ours(mine), theirs(rows)
    grad = torch.randn_like(wanted)
    y.backward(grad)
    wanted.backward(grad)
    close = {"rtol": rtol, "atol": atol}
    torch.testing.assert_close(y, wanted, **close)
    torch.testing.assert_close(mine.grad, rows.grad, **close)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        scale = max(1.0, float(q.grad.abs().max()))  # type: ignore[union-attr]
        torch.testing.assert_close(p.grad / scale, q.grad / scale, **close, msg=name)  # type: ignore[operator]
    for p, q in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(p, q, **close)
    assert y.dtype == wanted.dtype
    return y


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [nn.LayerNorm, nn.BatchNorm1d])
def test_any_size(make: Any, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    y = compare(*pair(make, shape[1], eps=1e-2), lanes(*shape))
    assert shape[1] == 1 or in_lanes(y)


@pytest.mark.parametrize("options", [{"elementwise_affine": False}, {"bias": False}])
def test_layer_norm_without_weight_or_bias(options: dict[str, Any]) -> None:
    compare(*pair(nn.LayerNorm, 12, **options), lanes(20, 12))


@pytest.mark.parametrize(
    "options", [{"affine": False}, {"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}]
)
def test_batch_norm_in_training_and_evaluation(options: dict[str, Any]) -> None:
    ours, theirs = pair(nn.BatchNorm1d, 12, **options)
    for _ in range(3):
        assert in_lanes(compare(ours, theirs, lanes(20, 12)))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for layer in (ours, theirs):
        layer.eval().zero_grad()
    assert in_lanes(compare(ours, theirs, lanes(20, 12)))


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.BatchNorm1d])
def test_bfloat16_as_autocast_has_it(make: Any) -> None:
    """Half activations, parameters in float32."""
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        y = compare(*pair(make, 32), lanes(48, 32, torch.bfloat16), rtol=0.05, atol=0.05)
    assert y.dtype == torch.bfloat16
    whole = pair(make, 32)
    compare(*(layer.bfloat16() for layer in whole), lanes(48, 32, torch.bfloat16), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("make", [nn.LayerNorm, nn.BatchNorm1d])
def test_not_a_number_stays_where_torch_has_it(make: Any) -> None:
    ours, theirs = pair(make, 6)
    for value in (torch.nan, torch.inf):
        x = lanes(20, 6).contiguous()
        x[3, 2] = value
        assert torch.equal(ours(x.t().contiguous().t()).isfinite(), theirs(x).isfinite())


def test_sequences() -> None:
    x = lanes(15, 8).view(3, 5, 8)
    assert x.stride() == (5, 1, 15)
    y = compare(*pair(nn.LayerNorm, 8), x)
    assert y.stride() == x.stride()


@pytest.mark.parametrize(
    "x", [torch.randn(4, 8), torch.randn(4, 3, 8).transpose(0, 1), torch.randn(8), torch.randn(0, 8)]
)
def test_what_is_not_in_lanes_is_torchs(x: Tensor) -> None:
    ours, theirs = pair(nn.LayerNorm, 8)
    assert torch.equal(ours(x), theirs(x))


def test_a_row_of_wrong_width_gets_torchs_error() -> None:
    for make, kind in ((nn.LayerNorm, RuntimeError), (nn.BatchNorm1d, (RuntimeError, ValueError))):
        ours, _ = pair(make, 8)
        with pytest.raises(kind):  # type: ignore[call-overload]
            ours(lanes(5, 9))


@pytest.mark.parametrize("norm", [layer_norm, batch_norm])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradcheck_in_float64(norm: Any, weighted: bool) -> None:
    vectors = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2)] if weighted else [None, None]
    x = lanes(6, 4, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: norm(*a, 1e-3)[0], (x, *vectors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: torch.dtype) -> None:
    weight, bias = (torch.randn(5, dtype=dtype, requires_grad=True) for _ in range(2))
    x = lanes(7, 5, dtype)
    opcheck(torch.ops.regrow.layer_norm, (x.clone().requires_grad_(), weight, bias, 1e-5))
    opcheck(torch.ops.regrow.layer_norm, (x.clone().requires_grad_(), None, None, 1e-5))
    _, mean, var = layer_norm(x, None, None, 1e-5)
    opcheck(
        torch.ops.regrow.layer_norm_backward,
        (lanes(7, 5, dtype), x, mean, var, weight.detach(), 1e-5),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("norm", [layer_norm, batch_norm])
def test_bits_repeat_at_a_fixed_number_of_threads(norm: Any) -> None:
    x, grad = lanes(2000, 40).requires_grad_(), lanes(2000, 40)
    weight = torch.ones(40, requires_grad=True)
    ends = []
    for _ in range(2):
        y = norm(x, weight, None, 1e-5)[0]
        ends.append((y, *torch.autograd.grad(y, (x, weight), grad)))
    assert all(map(torch.equal, *ends))


def test_copies_pickles_and_names() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4), nn.LayerNorm((2, 4)), nn.GroupNorm(2, 4))
    state = copy.deepcopy(model.state_dict())
    changed = take_over(model)
    assert [type(m) for m in model] == [LaneLayerNorm, LaneBatchNorm1d, LaneLayerNorm, LaneGroupNorm]
    x = torch.randn(3, 2, 4).movedim(0, -1).contiguous().movedim(-1, 0)
    torch.testing.assert_close(model[2](x), nn.LayerNorm((2, 4))(x))  # over two dimensions it is torch's
    assert isinstance(model[0], nn.LayerNorm)
    assert take_over(model) == []
    file = io.BytesIO()
    torch.save(model[:2], file)
    file.seek(0)
    for again in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert [type(m) for m in again[:2]] == [nn.LayerNorm, nn.BatchNorm1d]
        assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    model[:2](lanes(3, 4))
    assert calls
    give_back(changed)
    assert [type(m) for m in model[:2]] == [nn.LayerNorm, nn.BatchNorm1d]


def test_the_backend_takes_them_over_and_gives_them_back() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 6), nn.BatchNorm1d(6))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="set", density=0.5, total_steps=9, every=3, backend="sparse")
    assert type(model[1]) is LaneLayerNorm
    x = torch.randn(9, 6)
    ours = model(x)
    assert in_lanes(ours)
    ours.square().sum().backward()
    optimizer.step()
    ours = model.eval()(x)
    sparsifier.finalize()
    assert type(model[1]) is nn.LayerNorm
    assert type(model[4]) is nn.BatchNorm1d
    torch.testing.assert_close(model(x), ours)


def test_compiled_equals_eager(isa: str) -> None:
    if isa not in (native.available()[0], "reference"):
        pytest.skip("the compiler sees an op, whatever runs it")
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 6), nn.BatchNorm1d(6))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    regrow.sparsify(model, optimizer, method="static", density=0.5, total_steps=9, backend="sparse")
    x = torch.randn(9, 6)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ends = []
    for run in (model, compiled):
        model.zero_grad()
        run(x).square().sum().backward()
        ends.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*ends)


def test_out_of_lanes(isa: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = lanes(35, 19, dtype).requires_grad_()
        assert rows(x).is_contiguous()
        assert torch.equal(rows(x), x)
        assert torch.equal(rows(x.view(5, 7, 19)), x.view(5, 7, 19))
    opcheck(torch.ops.regrow.rows, (lanes(35, 19).requires_grad_(),))
    assert torch.autograd.gradcheck(rows, (lanes(3, 4, torch.float64).requires_grad_(),))
