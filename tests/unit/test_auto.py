"""backend="auto": what is decided, by what, and that it is kept."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regrow
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.execution import trial
from regrow.execution.auto import Decision
from regrow.execution.sparse_linear import SparseLinear
from regrow.execution.trial import Found, Unit, chosen

NAMES = ["0.weight", "2.weight", "4.weight"]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))


def start(model: nn.Module, method: str = "rigl") -> tuple[regrow.Sparsifier, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sparsifier = regrow.sparsify(
        model, optimizer, method=method, density=0.5, total_steps=40, every=2, backend="auto", topology="uniform"
    )
    return sparsifier, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        nn.functional.cross_entropy(model(torch.randn(5, 6)), torch.randint(4, (5,))).backward()
        optimizer.step()
        optimizer.zero_grad()


def sparse_layers(model: nn.Module) -> list[str]:
    return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, SparseLinear)]


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Make the measurement find these sites; counts how often it is made."""

    def these(*sites: str) -> list[int]:
        calls: list[int] = []

        def find(model: nn.Module, topology: Topology, call: Any) -> Found:
            calls.append(len(call[0][0]))
            return Found(sites, {"dense": 2.0, "sparse": 1.0})

        monkeypatch.setattr(trial, "find", find)
        return calls

    return these


def test_it_decides_once_at_the_first_training_step(finds: Callable[..., list[int]]) -> None:
    calls = finds("2.weight")
    model = network()
    sparsifier, optimizer = start(model)
    assert "masked until" in sparsifier.summary()
    assert sparsifier.decision is None
    model.eval()
    model(torch.randn(3, 6))
    model.train()
    with torch.no_grad():
        model(torch.randn(3, 6))
    assert calls == []
    train(model, optimizer, 5)
    assert calls == [5]
    assert sparse_layers(model) == ["2.weight"]
    assert "1 of 3 sites run truly sparse" in sparsifier.summary()
    assert sparsifier.decision is not None
    assert sparsifier.decision["sparse"] == ["2.weight"]
    assert sparsifier.topology.density == pytest.approx(0.5, abs=0.02)
    sparsifier.finalize()
    assert sparse_layers(model) == []
    assert Topology.of(model.state_dict(), NAMES) == sparsifier.topology


@pytest.mark.parametrize("method", ["rigl", "set", "snfs"])
@pytest.mark.parametrize("sites", [(), NAMES, NAMES[1:2]], ids=len)
def test_what_is_decided_changes_nothing_but_speed(
    finds: Callable[..., list[int]], method: str, sites: list[str]
) -> None:
    """The same trajectory as masked, in float64, through updates."""
    finds(*sites)
    model, plain = network().double(), network().double()
    torch.set_default_dtype(torch.float64)
    try:
        ours, optimizer = start(model, method)
        train(model, optimizer, 9)
        masked_optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
        masked = regrow.sparsify(
            plain, masked_optimizer, method=method, density=0.5, total_steps=40, every=2, topology="uniform"
        )
        train(plain, masked_optimizer, 9)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ours.topology == masked.topology
    for p, q in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_a_resumed_run_takes_the_decision_up(finds: Callable[..., list[int]], method: str) -> None:
    finds("0.weight", "2.weight")
    model = network()
    sparsifier, optimizer = start(model, method)
    train(model, optimizer, 5)
    file = io.BytesIO()
    torch.save([sparsifier.state_dict(), model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    calls = finds("4.weight")
    again = network(seed=1)
    resumed, optimizer_again = start(again, method)
    for part, state in zip((resumed, again, optimizer_again), torch.load(file, weights_only=False), strict=True):
        part.load_state_dict(state)
    assert sparse_layers(again) == NAMES[:2]
    assert resumed.decision == sparsifier.decision
    for net, moves in ((model, optimizer), (again, optimizer_again)):
        train(net, moves, 6)
    assert calls == []
    assert resumed.topology == sparsifier.topology
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


def test_it_decides_again_on_request_only(finds: Callable[..., list[int]]) -> None:
    finds("0.weight")
    model = network()
    sparsifier, optimizer = start(model, "snfs")
    train(model, optimizer, 3)
    calls = finds("4.weight")
    train(model, optimizer, 3)
    assert calls == []
    targets = {name: site.target for name, site in sparsifier.backend.sites(sparsifier.pattern).items()}
    sparsifier.backend.decide_again()  # type: ignore[attr-defined]
    train(model, optimizer, 3)
    assert calls == [5]
    assert sparse_layers(model) == ["4.weight"]
    assert targets == {name: site.target for name, site in sparsifier.backend.sites(sparsifier.pattern).items()}


def test_a_difference_is_named(finds: Callable[..., list[int]]) -> None:
    finds("2.weight")
    model = network()
    sparsifier, optimizer = start(model)
    train(model, optimizer, 1)
    state = sparsifier.state_dict()
    finds("4.weight")
    other, moves = start(network())
    train(other.model, moves, 1)
    with pytest.raises(RegrowError, match=r"decided otherwise.*2\.weight, 4\.weight"):
        other.load_state_dict(state)
    plain = network()
    masked = regrow.sparsify(
        plain, torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9), density=0.5, total_steps=40, every=2
    )
    with pytest.raises(RegrowError, match="backend='auto'"):
        masked.load_state_dict(state)
    with pytest.raises(RegrowError, match="no stored decision"):
        Decision.of({"sparse": []})
    foreign = {**state, "decision": {**state["decision"], "sparse": ["no.weight"]}}
    with pytest.raises(RegrowError, match=r"no\.weight"):
        start(network())[0].load_state_dict(foreign)


def test_copies_of_the_model_measure_nothing(finds: Callable[..., list[int]]) -> None:
    calls = finds("0.weight")
    model = network()
    start(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for again in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        again(torch.randn(3, 6)).sum().backward()
    assert calls == []


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.norm(self.left(x) + self.right(x)).relu_()}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(6, 6), nn.Sequential(Block())
        self.never = nn.Linear(6, 6)

    def forward(self, x: Tensor, *, scale: float) -> tuple[Tensor, float]:
        return self.blocks(self.first(x))["out"] * scale, scale


def test_a_measurement_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = Network()
    hooks: list[int] = []
    model.first.register_forward_hook(lambda *_: hooks.append(1))
    before = copy.deepcopy(model.state_dict())
    sites = ["first.weight", "blocks.0.left.weight", "blocks.0.right.0.weight", "never.weight"]
    topology = Topology.from_masks({name: model.get_parameter(name) > 0 for name in sites})
    x, state = torch.randn(4, 6), torch.get_rng_state()
    found = trial.find(model, topology, ((x,), {"scale": 2.0}))
    assert set(found.sparse) <= set(sites)
    assert found.seconds.keys() >= {"dense", "sparse"}
    assert torch.equal(torch.get_rng_state(), state)
    assert hooks == []
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, model.state_dict().values(), before.values()))


def test_a_block_is_decided_whole() -> None:
    model = Network()
    call: Any = ((torch.randn(4, 6),), {"scale": 2.0})
    sites = ["blocks.0.right.0.weight", "first.weight", "blocks.0.left.weight", "never.weight"]
    units = trial._units(model, sites, trial.calls_of(model, call))
    assert [(unit.name, unit.sites) for unit in units] == [
        ("first", ["first.weight"]),
        ("blocks.0", ["blocks.0.right.0.weight", "blocks.0.left.weight"]),
    ]


def unit(name: str, dense: float, sparse: float, crossing: float = 0.0) -> Unit:
    return Unit(name, [name], dense, sparse, crossing)


@pytest.mark.parametrize(
    ("units", "sparse"),
    [
        ([], ""),
        ([unit("a", 1, 2)], ""),
        ([unit("a", 2, 1)], "a"),
        ([unit("a", 1, 3), unit("b", 5, 1), unit("c", 1, 3)], "b"),
        ([unit("a", 1, 3), unit("b", 5, 1, 4.0), unit("c", 1, 3, 4.0)], ""),
        ([unit("a", 3, 1), unit("b", 1, 1.5, 1.0), unit("c", 3, 1, 1.0)], "abc"),
        ([unit("a", 1, 2), unit("b", 3, 1, 1.0), unit("c", 3, 1, 1.0)], "bc"),
    ],
)
def test_neighbours_part_only_where_it_pays(units: list[Unit], sparse: str) -> None:
    assert "".join(chosen(units)) == sparse


def test_what_cannot_be_copied_is_refused() -> None:
    model = network()
    model.made = model[0](torch.randn(2, 6))  # type: ignore[assignment]
    topology = Topology.from_masks({"0.weight": model[0].weight > 0})
    with pytest.raises(RegrowError, match="cannot be copied"):
        trial.find(model, topology, ((torch.randn(2, 6),), {}))


def test_where_nothing_can_run_sparse_nothing_is_measured() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(8, 2))
    topology = Topology.from_masks({"0.weight": model[0].weight > 0})
    assert trial.find(model, topology, ((torch.randn(2, 3, 4),), {})) == Found(())
