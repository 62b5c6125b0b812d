"""The laws on the models people bring: convolutions, attention, tied weights, other dtypes, layouts and wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import ACROSS_LAYERS, OPTIMIZERS, PRUNING, STEPS, entries, plain, sparse, tiny_model, train, weights_due

import regrow
from regrow import RegrowError
from regrow.sparsifier import Sparsifier


def check(model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Sparsifier, first: regrow.Topology) -> None:
    assert sparsifier.topology.nnz == weights_due(sparsifier, first.nnz)
    assert sparsifier.topology != first
    for name, mask in sparsifier.topology.items():
        parameter = model.get_parameter(name)
        assert torch.isfinite(parameter).all()
        for value in (parameter.detach(), *entries(optimizer, parameter).values()):
            assert (value[~mask] == 0).all()
        assert (parameter[mask] != 0).any()


def run(model: nn.Module, inputs: Callable[[], Tensor], method: str = "rigl-itop", **changes: Any) -> Sparsifier:
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method, **changes)
    first = sparsifier.topology
    for _ in range(STEPS):
        model(inputs()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    check(model, optimizer, sparsifier, first)
    return sparsifier


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear on sequences": (lambda: nn.Linear(8, 6), (2, 5, 8)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "Conv3d": (lambda: nn.Conv3d(2, 4, 3), (2, 2, 5, 5, 5)),
    "Conv2d in groups": (lambda: nn.Conv2d(4, 8, 3, groups=2), (2, 4, 6, 6)),
    "Conv2d by depth": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 6, 6)),
    "Conv2d strided and dilated": (lambda: nn.Conv2d(3, 4, 3, stride=2, dilation=2), (2, 3, 9, 9)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), (2, 3, 5, 5)),
    "Bilinear-like products": (lambda: nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 8)), (2, 8)),
}


@pytest.mark.parametrize("method", ["rigl-itop", "set", "snfs"])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer: str, method: str) -> None:
    make, shape = LAYERS[layer]
    run(make(), lambda: torch.randn(shape), method)


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)
        self.out = nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        keys = inputs if self.attention.kdim == 8 else inputs[..., :6]
        values = inputs if self.attention.vdim == 8 else inputs[..., :4]
        attended: Tensor = self.out(self.attention(inputs, keys, values, need_weights=False)[0])
        return attended


PARTS = [f"attention.in_proj_weight[{part}]" for part in "qkv"]


def attention_run(model: Attention, method: str = "rigl-itop", **changes: Any) -> tuple[Sparsifier, nn.Parameter]:
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    sparsifier = sparse(model, optimizer, method, **changes)
    for _ in range(STEPS):
        model(torch.randn(2, 5, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return sparsifier, model.attention.in_proj_weight


@pytest.mark.parametrize("method", regrow.METHODS)
def test_fused_attention_is_three_sites(method: str) -> None:
    sparsifier, fused = attention_run(Attention(), method)
    assert list(sparsifier.topology) == [*PARTS, "attention.out_proj.weight", "out.weight"]
    assert all(sparsifier.topology.shape(name) == (8, 8) for name in PARTS)
    for name, rows in zip(PARTS, fused.chunk(3), strict=True):
        assert (rows[~sparsifier.topology[name]] == 0).all()
        assert (rows[sparsifier.topology[name]] != 0).any()
        assert sparsifier.topology.nnz_of(name) == 21 or method in ACROSS_LAYERS
    moment = entries(sparsifier.optimizer, fused)["exp_avg"]
    assert (moment[~torch.cat([sparsifier.topology[name] for name in PARTS])] == 0).all()


@pytest.mark.parametrize("method", ["rigl-itop", "snfs"])
def test_a_part_may_stay_dense(method: str) -> None:
    sparsifier, fused = attention_run(Attention(), method, exclude=[PARTS[2], "out*"])
    assert list(sparsifier.topology) == [*PARTS[:2], "attention.out_proj.weight"]
    queries, _, values = fused.chunk(3)
    assert (values != 0).all()
    assert (queries[~sparsifier.topology[PARTS[0]]] == 0).all()
    only, _ = attention_run(Attention(), include=[PARTS[1]])
    assert list(only.topology) == [PARTS[1]]


def test_a_part_may_have_its_own_density() -> None:
    densities = attention_run(Attention(), overrides={PARTS[0]: 0.75})[0].topology.densities()
    assert densities[PARTS[0]] == 0.75


def test_attention_with_projections_of_its_own_and_extra_biases() -> None:
    model = Attention(kdim=6, vdim=4, add_bias_kv=True)
    sparsifier = run(model, lambda: torch.randn(2, 5, 8))
    names = [f"attention.{part}_proj_weight" for part in "qkv"]
    assert list(sparsifier.topology) == [*names, "attention.out_proj.weight", "out.weight"]
    assert (model.attention.bias_k != 0).all()


class Tied(nn.Module):
    """Two layers of one weight; the first owner is not sparse by itself when `embed`."""

    def __init__(self, embed: bool) -> None:
        super().__init__()
        self.first: nn.Module = nn.Embedding(12, 8) if embed else nn.Linear(8, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 12 if embed else 8, bias=False)
        self.head.weight = self.first.weight  # type: ignore[assignment]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.first(inputs))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["rigl-itop", "rigl", "snfs"])
def test_tied_weights_are_one_site(method: str) -> None:
    model = Tied(embed=False)
    sparsifier = run(model, lambda: torch.randn(4, 8), method)
    assert list(sparsifier.topology) == ["first.weight", "body.weight"]
    assert model.head.weight is model.first.weight
    assert {"first.weight", "head.weight"} <= model.state_dict().keys()


def test_either_name_of_a_tied_weight_will_do() -> None:
    model = Tied(embed=False)
    by_alias = sparse(model, OPTIMIZERS["sgd"](model.parameters()), include=["head.weight"])
    assert list(by_alias.topology) == ["first.weight"]
    model = Tied(embed=False)
    without = sparse(model, OPTIMIZERS["sgd"](model.parameters()), exclude=["head"])
    assert list(without.topology) == ["body.weight"]


def test_a_head_tied_to_an_embedding_stays_dense() -> None:
    model = Tied(embed=True)
    sparsifier = run(model, lambda: torch.randint(12, (4, 3)))
    assert list(sparsifier.topology) == ["body.weight"]
    assert (model.head.weight != 0).all()
    assert "embedding" in sparsifier.summary()
    with pytest.raises(RegrowError, match="cannot be sparse: embedding"):
        sparse(Tied(embed=True), sparsifier.optimizer, include=["head"])


class Custom(nn.Linear):
    """Further parameters of a Linear's subclass (LoRA's, say) are none of its weight."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.lora_a = nn.Parameter(torch.randn(2, 8))
        self.mix = nn.Parameter(torch.randn(8, 8))
        self.register_buffer("causal_mask", torch.ones(8))

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + inputs @ self.mix + (inputs @ self.lora_a.T) @ self.lora_a


def test_custom_layers() -> None:
    assert list(run(Custom(), lambda: torch.randn(4, 8)).topology) == ["weight"]
    assert list(run(Custom(), lambda: torch.randn(4, 8), include=["weight", "mix"]).topology) == ["weight", "mix"]


def test_patterns_pass_over_what_is_never_sparse() -> None:
    """A glob over a block means its weights, not its norms and biases."""
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.LayerNorm(8)), nn.Linear(8, 4))
    for pattern in ("0", "0.*", "0.0*", "0.0.weight"):
        sparsifier = sparse(model, OPTIMIZERS["sgd"](model.parameters()), include=[pattern])
        assert list(sparsifier.topology) == ["0.0.weight"]
        sparsifier.finalize()
    with pytest.raises(RegrowError, match=r"'0\.1' does nothing: '0\.1\.\w+' stays dense: normalisation"):
        sparse(model, OPTIMIZERS["sgd"](model.parameters()), include=["1", "0.1"])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["rigl-itop", "snfs"])
def test_channels_last(method: str, when: str) -> None:
    """The same decisions as in the default layout: positions are logical."""

    def end(layout: torch.memory_format) -> regrow.Topology:
        model = tiny_model().double()
        if when == "before":
            model = model.to(memory_format=layout)
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        sparsifier = sparse(model, optimizer, method)
        model = model.to(memory_format=layout)
        first = sparsifier.topology
        for step in range(1, STEPS + 1):
            inputs = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            model(inputs.to(memory_format=layout)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        check(model, optimizer, sparsifier, first)
        return sparsifier.topology

    assert end(torch.channels_last) == end(torch.contiguous_format)


@pytest.mark.parametrize("method", regrow.METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_types(dtype: torch.dtype, method: str) -> None:
    model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 4)).to(dtype)
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    first = sparsifier.topology
    for _ in range(STEPS):
        model(torch.randn(6, 12, dtype=dtype)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    if method != "static":
        check(model, optimizer, sparsifier, first)
    assert all(p.dtype == dtype for p in model.parameters())


def test_a_model_that_changes_its_number_type_after_sparsify() -> None:
    model = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 4))
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer)
    first = sparsifier.topology
    model.double()
    for _ in range(STEPS):
        model(torch.randn(6, 12, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    check(model, optimizer, sparsifier, first)
    assert all(p.dtype == torch.float64 for p in model.parameters())


class DistributedDataParallel(nn.Module):
    """Stands in for torch's, which needs a process group."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, DistributedDataParallel, compiled, lambda m: DistributedDataParallel(compiled(m))]
)
def test_wrappers_leave_the_names(wrap: Callable[[nn.Module], Any]) -> None:
    model = tiny_model()
    sparsifier = sparse(wrap(model), OPTIMIZERS["sgd"](model.parameters()))
    assert list(sparsifier.topology) == ["0.weight", "4.weight", "6.weight"]
    assert sparsifier.model is model


class Wrapped:
    """An optimizer in the wrapper of a training library."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_wrapped_optimizers() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, Wrapped(optimizer))  # type: ignore[arg-type]
    train(model, optimizer, range(1, STEPS + 1))
    assert sparsifier.step == STEPS


def test_groups_and_a_second_optimizer() -> None:
    """A fine-tuner's set-up: two groups here, another optimizer for the head; only what it holds is sparse."""
    model = tiny_model()
    groups = [{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[4].parameters(), "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)  # type: ignore[arg-type]
    head = torch.optim.Adam([*model[6].parameters(), *model[1].parameters()])
    sparsifier = sparse(model, optimizer)
    first = sparsifier.topology
    assert list(first) == ["0.weight", "4.weight"]
    for step in range(1, STEPS + 1):
        plain(model, optimizer, step)
        head.step()
        head.zero_grad()
    check(model, optimizer, sparsifier, first)
    assert (model[6].weight != 0).all()


def test_a_dense_layer_among_sparse_ones_stays_dense() -> None:
    for method in [m for m in regrow.METHODS if m not in PRUNING]:
        model = tiny_model()
        optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
        own = {"redistribute": "none"} if method == "snfs" else {}
        sparsifier = sparse(model, optimizer, method, topology="erk", **own)
        train(model, optimizer, range(1, STEPS + 1))
        assert sparsifier.topology.densities()["6.weight"] == 1.0
        assert (model[6].weight != 0).all()


def test_density_one_is_dense_training() -> None:
    ends = []
    for density in (1.0, None):
        model = tiny_model()
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        if density:
            sparse(model, optimizer, "rigl-itop", density=density)
        train(model, optimizer, range(1, STEPS + 1))
        ends.append(model[4].weight.detach())
    assert torch.equal(*ends)
