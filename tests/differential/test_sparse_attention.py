"""Attention with sparse projections: as torch has it, and as the masked backend trains it."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

import regrow
from regrow import RegrowError
from regrow.core.schedules import Every
from regrow.execution.sparse_attention import SparseAttention
from regrow.tickets.load import load
from regrow.tickets.ticket import Ticket

WIDTH, HEADS, B, T, S = 12, 3, 2, 5, 4


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def attention(**options: Any) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    """One that runs sparse, and torch's with the same weights."""
    ours = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True} | options)
    for name, parameter in ours.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    optimizer = optim.SGD(ours.parameters(), 0.1)
    regrow.sparsify(ours, optimizer, method="static", density=0.4, total_steps=9, backend="sparse")
    assert type(ours) is SparseAttention
    theirs = copy.deepcopy(ours)
    assert type(theirs) is nn.MultiheadAttention
    return ours, theirs


def inputs(kind: str, batch_first: bool = True, kdim: int = WIDTH, vdim: int = WIDTH) -> tuple[Tensor, ...]:
    """Query, key, value: one tensor, two or three."""
    if kind == "self":
        return (torch.randn(B, T, WIDTH),) * 3
    q, k = torch.randn(B, T, WIDTH), torch.randn(B, S, kdim)
    found = (q, k, k if kind == "cross" else torch.randn(B, S, vdim))
    return found if batch_first else tuple(x.transpose(0, 1) for x in found)


def agree(ours: nn.Module, theirs: nn.Module, args: tuple[Tensor, ...], **options: Any) -> None:
    """Outputs, attention weights, and gradients of inputs and parameters."""
    ends = []
    for module in (ours, theirs):
        leaves = {id(x): x.detach().clone().requires_grad_() for x in args}
        y, weights = module(*(leaves[id(x)] for x in args), **options)
        module.zero_grad()
        torch.manual_seed(1)
        loss = (y * torch.randn(y.shape)).sum() + (
            0 if weights is None else (weights * torch.randn(weights.shape)).sum()
        )
        loss.backward()
        ends.append((y, weights, [leaf.grad for leaf in leaves.values()], dict(module.named_parameters())))
    (y, weights, grads, mine), (y2, weights2, grads2, plain) = ends
    torch.testing.assert_close(y, y2)
    torch.testing.assert_close(weights, weights2)
    torch.testing.assert_close(grads, grads2)
    state = ours.state_dict()
    for name, parameter in plain.items():
        theirs_at = parameter.grad if mine[name].shape == parameter.shape else parameter.grad[state[name] != 0]
        torch.testing.assert_close(mine[name].grad, theirs_at, msg=name)


MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "bool": {"attn_mask": torch.rand(T, T).argsort(1) < 2},
    "float for every head": {"attn_mask": torch.randn(B * HEADS, T, T, dtype=torch.float64)},
    "padding": {"key_padding_mask": torch.arange(T) >= torch.tensor([[T], [3]])},
    "float padding": {"key_padding_mask": torch.randn(B, T, dtype=torch.float64)},
    "both": {"attn_mask": torch.eye(T).bool(), "key_padding_mask": torch.arange(T) >= torch.tensor([[T], [3]])},
    "causal": {"attn_mask": torch.ones(T, T).triu(1).bool(), "is_causal": True},
}


@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: str, weights: dict[str, Any]) -> None:
    agree(*attention(), inputs("self"), **MASKS[mask], **weights)


@pytest.mark.parametrize("kind", ["self", "cross", "all"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": False},
        {"bias": False},
        {"add_zero_attn": True},
        {"add_bias_kv": True},
        {"add_bias_kv": True, "add_zero_attn": True, "bias": False, "batch_first": False},
    ],
)
def test_options(options: dict[str, Any], kind: str) -> None:
    args = inputs(kind, options.get("batch_first", True))
    agree(*attention(**options), args)
    agree(*attention(**options), args, need_weights=False)


@pytest.mark.parametrize("bias", [False, True])
def test_keys_and_values_of_other_widths(bias: bool) -> None:
    agree(*attention(kdim=7, vdim=8, bias=bias), inputs("all", kdim=7, vdim=8))


def test_masks_with_keys_of_the_layers_own() -> None:
    pair = attention(add_bias_kv=True, add_zero_attn=True)
    for mask in MASKS.values():
        agree(*pair, inputs("self"), **{key: value for key, value in mask.items() if key != "is_causal"})


def test_without_a_batch() -> None:
    pair = attention()
    x = torch.randn(T, WIDTH)
    for options in ({}, {"need_weights": False}, {"key_padding_mask": torch.arange(T) > 3}):
        agree(*pair, (x, x, x), **options)


def test_dropout_and_half_precision() -> None:
    ours, theirs = attention(dropout=0.5)
    x = torch.randn(B, T, WIDTH)
    ends = []
    for module in (ours, theirs):
        torch.manual_seed(3)
        ends.append(module(x, x, x)[0])
    torch.testing.assert_close(*ends)
    ours, theirs = ours.float().eval(), theirs.float().eval()
    with torch.autocast("cpu", torch.bfloat16):
        ends = [
            m(x.float(), x.float(), x.float(), key_padding_mask=MASKS["padding"]["key_padding_mask"])[0]
            for m in (ours, theirs)
        ]
    assert ends[0].dtype == ends[1].dtype == torch.bfloat16
    torch.testing.assert_close(*ends, rtol=0.1, atol=0.05)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_refusals() -> None:
    ours, _ = attention()
    x = torch.randn(B, T, WIDTH)
    with pytest.raises(RegrowError, match="is_causal=True is a hint"):
        ours(x, x, x, is_causal=True)
    nested = torch.nested.nested_tensor([torch.randn(3, WIDTH), torch.randn(2, WIDTH)])
    with pytest.raises(RegrowError, match="no nested tensors"):
        ours(nested, nested, nested)
    with pytest.raises(RegrowError, match=r"in_proj_weight' is sparse already; finalize\(\)"):
        regrow.sparsify(ours, optim.SGD(ours.parameters(), 0.1), density=0.5, total_steps=100, every=10)


class Net(nn.Module):
    """An encoder layer, cross-attention, and what reads them out."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 16, 0.0, batch_first=True), 1)
        self.memory = nn.Parameter(torch.randn(1, S, WIDTH))
        self.cross = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x)
        memory = self.memory.expand(len(x), -1, -1)
        y: Tensor = self.norm(x + self.cross(x, memory, memory, need_weights=False)[0])
        return y


def started(backend: str, method: str = "rigl-itop", kind: str = "adamw", updates: int = 20, **options: Any) -> Any:
    torch.manual_seed(0)
    model = Net()
    made = {"sgd": lambda p: optim.SGD(p, 0.05, momentum=0.9), "adamw": lambda p: optim.AdamW(p, 3e-3, eps=1e-3)}[kind]
    optimizer = made(model.parameters())
    every = None if method == "static" else Every(3)
    # Attention has gradients that are nothing but rounding errors: of the keys' bias, of queries whose row of keys is
    # empty. Adam's eps keeps them small, the density keeps rows of keys filled.
    setup = {"density": 0.5, "total_steps": 3 * updates + 3, "every": every, "backend": backend} | options
    return model, optimizer, regrow.sparsify(model, optimizer, method=method, **setup)


def train(run: Any, steps: range) -> list[str]:
    model, optimizer, sparsifier = run
    digests = []
    for step in steps:
        x = torch.randn(B, T, WIDTH, generator=torch.Generator().manual_seed(step))
        mse_loss(model(x), x.flip(1)).backward()
        optimizer.step()
        optimizer.zero_grad()
        digests.append(sparsifier.topology.digest())
    return digests


@pytest.mark.parametrize(
    ("method", "kind"), [*((m, "adamw") for m in regrow.METHODS), ("rigl", "sgd"), ("snfs", "sgd")]
)
def test_masked_and_sparse_decide_alike(method: str, kind: str) -> None:
    masked, sparse = (started(backend, method, kind) for backend in ("masked", "sparse"))
    assert type(sparse[0].cross) is SparseAttention
    assert sparse[0].cross.in_proj_weight.dim() == 1
    ends = [train(run, range(62)) for run in (masked, sparse)]
    assert ends[0] == ends[1]
    for name, value in masked[0].state_dict().items():
        torch.testing.assert_close(sparse[0].state_dict()[name], value)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": ["cross.in_proj_weight[k]"]},
        {"exclude": ["*out_proj*", "*linear*"]},
        {"include": ["*out_proj*"]},
        {"include": ["encoder.layers.0.self_attn.in_proj_weight[v]", "*linear1"]},
    ],
)
def test_some_of_the_projections(options: dict[str, Any]) -> None:
    runs = [started(backend, "rigl", updates=5, **options) for backend in ("masked", "sparse")]
    assert [*runs[0][2].topology] == [*runs[1][2].topology]
    ends = [train(run, range(17)) for run in runs]
    assert ends[0] == ends[1]
    for name, value in runs[0][0].state_dict().items():
        torch.testing.assert_close(runs[1][0].state_dict()[name], value)


@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_resumed_bit_for_bit_and_given_back(method: str) -> None:
    run = started("sparse", method, updates=5)
    train(run, range(7))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in run], file)
    file.seek(0)
    again = started("sparse", method, updates=5)
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert train(run, range(7, 17)) == train(again, range(7, 17))
    x = torch.randn(B, T, WIDTH)
    model, optimizer, sparsifier = run
    y, state = model(x), model.state_dict()
    assert all(torch.equal(value, again[0].state_dict()[name]) for name, value in state.items())
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in Net().state_dict().items()}
    copied = copy.deepcopy(model)
    sparsifier.finalize()
    for plain in (model, copied):
        kinds = {type(module).__module__ for module in plain.modules() if type(module) is not Net}
        assert all(kind.startswith("torch.nn") for kind in kinds)
        torch.testing.assert_close(plain(x), y)
    assert [type(m) for m in model.modules()] == [type(m) for m in Net().modules()]
    assert model.encoder.layers[0].activation_relu_or_gelu == 1
    assert optimizer.state[model.cross.in_proj_weight]["exp_avg"].shape == (3 * WIDTH, WIDTH)
    train(run, range(20, 23))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_inference_where_torch_has_a_fused_path() -> None:
    model, _, sparsifier = started("sparse")
    model.eval()
    x, hidden = torch.randn(B, T, WIDTH), torch.arange(T) >= torch.tensor([[T], [3]])
    with torch.no_grad():
        ours = model(x), model.encoder(x, src_key_padding_mask=hidden)[~hidden]
    sparsifier.finalize()
    with torch.no_grad():
        theirs = model(x), model.encoder(x, src_key_padding_mask=hidden)[~hidden]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_tickets(backend: str) -> None:
    """Taken from sparse attention, and loaded into it."""
    run = started("sparse", "rigl", updates=5)
    train(run, range(7))
    taken = Ticket.of(run[0], run[2])
    again = load(taken, Net(), backend=backend)
    x = torch.randn(B, T, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(again(x), run[0].eval()(x))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in run[0].state_dict().items())


def test_every_pairing_of_dense_and_sparse_halves_of_a_layer() -> None:
    """Input and output projections, alone and together, on one TransformerEncoderLayer."""
    names = ["self_attn.in_proj_weight", "self_attn.out_proj", "linear1"]
    for some in itertools.chain.from_iterable(itertools.combinations(names, n) for n in (1, 2, 3)):
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, 0.0, batch_first=True)
        optimizer = optim.SGD(layer.parameters(), 0.1)
        setup = {"method": "static", "density": 0.4, "total_steps": 9, "backend": "sparse"}
        regrow.sparsify(layer, optimizer, include=list(some), **setup)
        x = torch.randn(B, T, WIDTH)
        torch.testing.assert_close(layer(x), copy.deepcopy(layer)(x))


def test_compiled_equals_eager() -> None:
    model, _, _ = started("sparse")
    x = torch.randn(B, T, WIDTH)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
