"""Laws 3, 5 and 9 on the sparse backend: a plain model outside, resumed bit for bit, refused with one clear error."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from backends import BACKENDS, Run, bits, start
from torch import nn
from zoo import OPTIMIZERS, STEPS, THREE, batch, plain, tiny_model, train

import regrow
from regrow import RegrowError
from regrow.execution.sparse_linear import SparseLinear


@pytest.fixture
def trained() -> Run:
    run = start("sparse")
    train(run[0], run[1], range(1, 8))
    return run


def zeros_are_exact(state: dict[str, Any], topology: regrow.Topology) -> bool:
    return all(bool((state[name][~topology[name]] == 0).all()) for name in topology)


def test_names_hooks_and_references_survive() -> None:
    model = tiny_model()
    layer, weight, calls = model[4], model[4].weight, []
    layer.register_forward_hook(lambda *_: calls.append(1))
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    names = [name for name, _ in model.named_parameters()]
    sparsifier = regrow.sparsify(
        model, optimizer, density=0.3, total_steps=STEPS, every=3, exclude=["0"], backend="sparse"
    )
    assert model[4] is layer
    assert isinstance(layer, SparseLinear)
    assert layer.weight is weight
    assert any(p is weight for p in model.parameters())
    assert [name for name, _ in model.named_parameters()] == names
    assert weight.numel() == sparsifier.topology.nnz_of("4.weight")
    train(model, optimizer, range(1, STEPS + 1))
    assert calls
    sparsifier.finalize()
    assert type(layer) is nn.Linear
    assert layer.weight is weight
    assert weight.shape == (24, 96)


def test_the_state_dict_is_the_plain_models(trained: Run) -> None:
    model, _, sparsifier = trained
    state, dense = model.state_dict(), tiny_model().state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in dense.items()}
    assert [*state] == [*dense]
    assert zeros_are_exact(state, sparsifier.topology)
    again = tiny_model(seed=5)
    again.load_state_dict(state)
    inputs = batch(0)[0]
    torch.testing.assert_close(again.eval()(inputs), model.eval()(inputs))


def test_load_state_dict_takes_it_back(trained: Run) -> None:
    model, optimizer, _ = trained
    saved = model.state_dict()
    plain(model, optimizer, 8)
    assert model.load_state_dict(saved).missing_keys == []
    assert all(torch.equal(model.state_dict()[k], v) for k, v in saved.items())
    with pytest.raises(RuntimeError, match=r"size mismatch for 4\.weight: \(3, 3\) given, \(24, 96\) expected"):
        model.load_state_dict(saved | {"4.weight": torch.ones(3, 3)})
    with pytest.raises(RuntimeError, match=r"Missing key.*4\.weight"):
        model.load_state_dict({k: v for k, v in saved.items() if k != "4.weight"})


def test_a_dense_state_outside_the_topology_is_let_go(trained: Run) -> None:
    model, optimizer, sparsifier = trained
    model.load_state_dict(tiny_model(seed=3).state_dict())
    plain(model, optimizer, 8)
    assert zeros_are_exact(model.state_dict(), sparsifier.topology)


@pytest.mark.parametrize("method", regrow.METHODS)
def test_finalize_leaves_a_plain_model_with_exact_zeros(method: str) -> None:
    model, optimizer, sparsifier = start("sparse", method, "adamw")
    train(model, optimizer, range(1, STEPS + 1))
    outputs = model.eval()(batch(0)[0])
    state = model.state_dict()
    assert sparsifier.finalize() is model
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert zeros_are_exact(state, sparsifier.topology)
    torch.testing.assert_close(model(batch(0)[0]), outputs)
    for parameter in model.parameters():
        assert not parameter._backward_hooks
        assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape
    topology = sparsifier.topology
    train(model.train(), optimizer, range(20, 24))
    assert sparsifier.topology == topology
    assert not zeros_are_exact(model.state_dict(), topology)
    sparsifier.finalize()


def test_a_finalized_model_can_become_sparse_again(trained: Run) -> None:
    model, optimizer, sparsifier = trained
    sparsifier.finalize()
    for backend in BACKENDS:
        again = regrow.sparsify(
            model, optimizer, method="set", total_steps=9, every=3, topology=sparsifier.topology, backend=backend
        )
        train(model, optimizer, range(20, 25))
        assert zeros_are_exact(model.state_dict(), again.topology)
        again.finalize()


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "frozen"])
def test_copies_are_plain_and_stay(trained: Run, how: str) -> None:
    model, optimizer, sparsifier = trained
    if how == "pickle":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    else:
        copied = copy.deepcopy(model) if how == "deepcopy" else sparsifier.frozen_copy()
    before = copy.deepcopy(model.state_dict())
    assert type(copied[4]) is nn.Linear
    assert copied[4].weight.requires_grad == (how != "frozen")
    assert not copied[4].weight._backward_hooks
    train(model, optimizer, range(8, 13))
    assert all(torch.equal(copied.state_dict()[k], v) for k, v in before.items())
    assert copied(batch(0)[0]).shape == (8, 4)


def saved(run: Run) -> io.BytesIO:
    file = io.BytesIO()
    torch.save({k: part.state_dict() for k, part in zip("mos", run, strict=True)}, file)
    file.seek(0)
    return file


def resumed(file: io.BytesIO, method: str, kind: str, order: str = "mos") -> Run:
    run = start("sparse", method, kind, seed=9)
    content = torch.load(file, weights_only=True)
    parts = dict(zip("mos", run, strict=True))
    for key in order:
        parts[key].load_state_dict(content[key])
    return run


@pytest.mark.parametrize("kind", THREE)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_resumed_bit_for_bit(method: str, kind: str) -> None:
    """Just before, at and after an update: births are exactly 0.0 there, and exist."""
    run = start("sparse", method, kind)
    files = {}
    for step in range(STEPS + 1):
        if step in (0, 5, 6, 7):
            files[step] = saved(run)
        plain(run[0], run[1], step + 1)
    for step, file in files.items():
        again = resumed(file, method, kind)
        train(again[0], again[1], range(step + 1, STEPS + 2))
        assert bits(again) == bits(run), f"resumed at step {step}"


@pytest.mark.parametrize("method", ["snfs", "rigl"])
@pytest.mark.parametrize("order", ["mos", "som", "smo"])
def test_any_order_of_loading(order: str, method: str) -> None:
    run = start("sparse", method)
    train(run[0], run[1], range(1, 6))
    again = resumed(saved(run), method, "sgd-momentum", order)
    for model, optimizer, _ in (run, again):
        train(model, optimizer, range(6, STEPS + 1))
    assert bits(again) == bits(run)


def test_a_run_goes_back_to_a_state_it_kept() -> None:
    run = start("sparse", "snfs")
    train(run[0], run[1], range(1, 5))
    states = [copy.deepcopy(part.state_dict()) for part in run]
    ends = []
    for _ in range(3):
        train(run[0], run[1], range(5, STEPS + 1))
        ends.append(bits(run))
        for part, state in zip(run, copy.deepcopy(states), strict=True):
            part.load_state_dict(state)
    assert ends[0] == ends[1] == ends[2]


def refused(message: str, model: nn.Module, **setup: Any) -> None:
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RegrowError, match=message) as caught:
        regrow.sparsify(model, optimizer, density=0.5, total_steps=100, every=10, backend="sparse", **setup)
    assert len(str(caught.value)) < 600
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not optimizer._optimizer_step_post_hooks


class Tied(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
        self[1].weight = self[0].weight


class Custom(nn.Linear):
    pass


class CustomAttention(nn.MultiheadAttention):
    pass


class CustomLayer(nn.TransformerEncoderLayer):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv1d(4, 8, 3), nn.Flatten(), nn.Linear(8, 4)),
            r"1 of 2 sites are none: 0\.weight \(weight of Conv1d\); exclude=\['0\.weight'.*'masked'",
        ),
        (lambda: nn.ConvTranspose2d(4, 8, 3), r"weight \(weight of ConvTranspose2d\)"),
        (Tied, r"0\.weight \(shared by 2 layers\)"),
        (lambda: Custom(8, 4), r"weight \(weight of Custom\)"),
        (lambda: CustomAttention(8, 2), r"4 of 4 .*in_proj_weight\[q\] \(in_proj_weight of CustomAttention"),
        (lambda: CustomLayer(8, 2, 16), r"CustomLayer may read it as a matrix, as TransformerEncoderLayer does"),
    ],
)
def test_what_cannot_run_truly_sparse(make: Any, message: str) -> None:
    refused(message, make())


@pytest.mark.parametrize("backend", BACKENDS)
def test_twice_on_one_weight(backend: str) -> None:
    model, _, sparsifier = start("sparse")
    again = {"density": 0.5, "total_steps": 100, "every": 10, "exclude": ["0"], "backend": backend}
    with pytest.raises(RegrowError, match=r"'4\.weight' is sparse already; finalize\(\)"):
        regrow.sparsify(model, OPTIMIZERS["sgd"](model.parameters()), **again)  # type: ignore[arg-type]
    sparsifier.finalize()
    regrow.sparsify(model, OPTIMIZERS["sgd"](model.parameters()), **again)  # type: ignore[arg-type]


def test_summary_names_the_backend(trained: Run) -> None:
    text = trained[2].summary()
    assert "24x96" in text
    assert "only the surviving weights are stored" in text
    assert "nnz=" in repr(trained[0])


def test_a_layer_from_its_number_of_weights() -> None:
    layer = SparseLinear(30, 20, 90, generator=torch.Generator().manual_seed(0))
    assert layer.weight.shape == (90,)
    assert layer.state_dict()["weight"].shape == (20, 30)
    assert int((layer.state_dict()["weight"] != 0).sum()) == 90
    x = torch.randn(4, 30)
    plain_layer = copy.deepcopy(layer)
    assert type(plain_layer) is nn.Linear
    torch.testing.assert_close(layer(x), plain_layer(x))
    with pytest.raises(RegrowError, match="nnz=601: a 20 x 30 layer has 0 to 600"):
        SparseLinear(30, 20, 601)


def test_built_layers_train_and_stay_themselves() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SparseLinear(30, 20, 90), nn.Tanh(), SparseLinear(20, 4, 40))
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    setup: dict[str, Any] = {"method": "rigl-itop", "total_steps": STEPS, "every": 3, "backend": "sparse"}
    with pytest.raises(RegrowError, match=r"topology='erk': SparseLinear layers \(0\.weight, .*topology='built'"):
        regrow.sparsify(model, optimizer, density=0.1, **setup)
    with pytest.raises(RegrowError, match=r"'0\.weight' belongs to a SparseLinear"):
        regrow.sparsify(model, optimizer, **setup | {"topology": "built", "backend": "masked"})
    values = model[0].weight.detach().clone()
    sparsifier = regrow.sparsify(model, optimizer, topology="built", **setup)
    assert torch.equal(model[0].weight, values)
    assert [sparsifier.topology.nnz_of(name) for name in sparsifier.topology] == [90, 40]
    first = sparsifier.topology
    for _ in range(STEPS):
        model(torch.randn(8, 30)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.topology != first
    sparsifier.finalize()
    assert type(model[0]) is SparseLinear
    assert torch.equal(model[0].index.positions(), sparsifier.topology.index("0.weight"))


def test_a_layer_that_could_never_be_dense() -> None:
    model = nn.Sequential(SparseLinear(100_000, 50_000, 2000))
    model(torch.randn(2, 100_000)).square().mean().backward()
    assert model[0].weight.grad is not None
    with pytest.raises(RegrowError, match=r"0\.weight: a 50000 x 100000 layer cannot be written out dense"):
        model.state_dict()
