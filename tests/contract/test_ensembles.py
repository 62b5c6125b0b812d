"""Tickets of live models on both backends, and what runs on them: plain models, sparse models, ensembles."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from backends import BACKENDS, start
from torch import Tensor, nn
from zoo import batch, plain, sparse, tiny_model

import regrow
from regrow import Ensemble, RegrowError, Ticket, Topology
from regrow.tickets import predict


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(36, 40),
        nn.BatchNorm1d(40),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(40, 30, bias=False),
        nn.LayerNorm(30),
        nn.GELU(),
        nn.Linear(30, 4),
    )


def trained(seed: int, model: nn.Module | None = None, backend: str = "masked", steps: int = 4) -> Ticket:
    model = model or mlp(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sparsifier = sparse(model, optimizer, "set", seed=seed, backend=backend)
    for step in range(1, steps + 1):
        plain(model, optimizer, step)
    return Ticket.of(model, sparsifier, seed=seed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_ticket_is_the_live_model(backend: str, tmp_path: Path) -> None:
    model, optimizer, sparsifier = start(backend)
    for step in range(1, 8):
        plain(model, optimizer, step)
    ticket = Ticket.of(model, sparsifier, step=7)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert ticket.meta == {"step": "7"}
    assert ticket.topology == sparsifier.topology
    plain(model, optimizer, 8)  # a copy: what comes later does not touch it
    ticket.save(tmp_path / "t.safetensors")
    for kept in (ticket, Ticket.load(tmp_path / "t.safetensors")):
        assert kept.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in kept.state_dict().items())


def test_no_dense_copy_of_a_sparse_layer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("sparse")
    monkeypatch.setattr("regrow.execution.sparse_linear.SparseLinear.dense", None)
    ticket = Ticket.of(run[0], run[2])
    assert all(ticket.state[name].shape == (ticket.topology.nnz_of(name),) for name in ticket.topology)


def test_by_a_topology_alone() -> None:
    model, _, sparsifier = start("masked")
    assert torch.equal(
        Ticket.of(model, Topology.of(model.state_dict(), sparsifier.topology)).state["4.weight"],
        Ticket.of(model, sparsifier).state["4.weight"],
    )
    narrow = Topology({n: sparsifier.topology.index(n)[1:] for n in sparsifier.topology}, sparsifier.topology.shapes)
    with pytest.raises(RegrowError, match="1 weights outside the topology that are not zero"):
        Ticket.of(model, narrow)
    model, _, sparsifier = start("sparse")
    with pytest.raises(RegrowError, match="is on another topology"):
        Ticket.of(model, narrow)
    other = start("sparse", seed=1)
    ticket = Ticket.of(model, sparsifier)
    with pytest.raises(RegrowError, match=r"is on another topology; .* apply tickets to plain models"):
        Ticket({**ticket.state, **{n: ticket.state[n][1:] for n in narrow}}, narrow).apply(other[0])
    assert ticket.apply(copy.deepcopy(other[0])) is not other[0]


class Tied(nn.Module):
    """Two names for one weight, and a fused projection of which one part stays dense."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 4)
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x.flatten(2).expand(-1, 3, -1)[..., :8]).relu())
        y: Tensor = self.out(self.attention(x, x, x, need_weights=False)[0].mean(1) * self.scale)
        return y


def test_tied_weights_and_fused_projections(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparsifier = sparse(model, optimizer, exclude=["attention.in_proj_weight[v]"], method="set")
    for step in (1, 2, 3):
        plain(model, optimizer, step)
    ticket = Ticket.of(model, sparsifier)
    assert ticket.tied == {"second.weight": "first.weight"}
    assert ticket.state["attention.in_proj_weight[v]"].shape == (8, 8)
    ticket.save(tmp_path / "t.safetensors")
    again = regrow.load(tmp_path / "t.safetensors", Tied(), backend="masked")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    x, _ = batch(9)
    ensemble = Ensemble(Tied(), [ticket, ticket])
    torch.testing.assert_close(ensemble.logits(x)[1], model.eval()(x))


class Attending(Tied):
    """Without the shared weight, which the sparse backend refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 8)


@pytest.mark.parametrize("part", ["[v]", "none"])
def test_sparse_attention(part: str) -> None:
    """Its projections are no modules that could be stacked: members run one after another."""
    exclude = [f"attention.in_proj_weight{part}"] if part != "none" else []
    tickets = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = Attending()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        sparsifier = sparse(model, optimizer, exclude=exclude, method="set", seed=seed, backend="sparse")
        plain(model, optimizer, 1)
        tickets.append(Ticket.of(model, sparsifier))
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in tickets[-1].state_dict().items())
    x, _ = batch(9)
    expected = torch.stack([ticket.apply(Attending()).eval()(x) for ticket in tickets])
    ensemble = Ensemble(Attending(), tickets, "sparse")
    assert "member after member" in ensemble.note
    torch.testing.assert_close(ensemble.logits(x), expected)
    torch.testing.assert_close(Ensemble(Attending(), tickets).logits(x), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_load_for_inference(backend: str) -> None:
    ticket = trained(0, backend="sparse")
    x, _ = batch(9, size=5)
    model = regrow.load(ticket, mlp(7), backend=backend)
    assert not model.training
    torch.testing.assert_close(model(x), ticket.apply(mlp(8)).eval()(x))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in ticket.state_dict().items())
    if backend == "sparse":
        assert model[1].weight.shape == (ticket.topology.nnz_of("1.weight"),)
    with pytest.raises(RegrowError, match="unknown backend 'dense'"):
        regrow.load(ticket, mlp(), backend="dense")


def each(tickets: list[Ticket], x: Tensor) -> Tensor:
    return torch.stack([ticket.apply(mlp()).eval()(x).softmax(-1) for ticket in tickets])


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_ensemble_is_its_tickets(backend: str, size: int) -> None:
    tickets = [trained(seed, steps=seed + 1) for seed in range(3)]
    x, _ = batch(9, size)
    ensemble = Ensemble(mlp(5), tickets, backend).train()
    assert not ensemble.stack.training
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            for _ in range(2):
                torch.testing.assert_close(ensemble.members(x), each(tickets, x))
    torch.testing.assert_close(ensemble(x), each(tickets, x).mean(0))
    torch.testing.assert_close(ensemble.log_probabilities(x), each(tickets, x).mean(0).log())
    torch.testing.assert_close(predict(mlp(), tickets, x, backend), each(tickets, x))
    assert ensemble.note == "one pass for all members"
    weighted = Ensemble(mlp(), tickets, backend, weights=[2, 0, 6])
    torch.testing.assert_close(weighted(x), 0.25 * each(tickets, x)[0] + 0.75 * each(tickets, x)[2])


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2])
def test_few_samples_are_the_same_for_any_number_of_threads(
    threads: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of rows of 40 divide among them, those of 5 do not."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5))

    tickets = [Ticket(build().state_dict(), Topology({}, {})) for _ in range(3)]
    x, _ = batch(9, size)
    with torch.no_grad():
        expected = torch.stack([ticket.apply(build())(x) for ticket in tickets])
        ensemble = Ensemble(build(), tickets)
        for _ in range(2):
            torch.testing.assert_close(ensemble.logits(x), expected)
        assert "one pass" in ensemble.note


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_pass_an_ensemble(backend: str) -> None:
    tickets = [trained(seed) for seed in range(3)]
    ensemble, (x, y) = Ensemble(mlp(), tickets, backend), batch(9)

    def gradient(probabilities: Tensor) -> Tensor:
        return torch.autograd.grad(probabilities.log()[range(len(y)), y].sum(), x)[0]

    x.requires_grad_()
    torch.testing.assert_close(gradient(ensemble(x)), gradient(each(tickets, x).mean(0)))


def test_members_may_have_different_numbers_of_connections() -> None:
    tickets = [trained(0), trained(1)]
    index = {name: tickets[1].topology.index(name)[::2] for name in tickets[1].topology}
    values = {name: tickets[1].state[name][::2] for name in index}
    tickets[1] = Ticket({**tickets[1].state, **values}, Topology(index, tickets[1].topology.shapes))
    x, _ = batch(9)
    torch.testing.assert_close(Ensemble(mlp(), tickets, "sparse").members(x), each(tickets, x))


def test_no_member_is_written_out_dense() -> None:
    tickets = [trained(seed) for seed in range(3)]
    ensemble = Ensemble(mlp(), tickets, "sparse")
    held = sum(t.numel() for t in (*ensemble.stack.parameters(), *ensemble.stack.buffers()))
    assert held < 3 * sum(value.numel() for value in tickets[0].state.values()) + 3 * 3 + 1


class Branching(nn.Module):
    """What vmap cannot run: a decision taken on values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y if bool((y > 0).all()) else 2 * y


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_vmap_refuses_runs_member_after_member(backend: str) -> None:
    tickets = [trained(seed, Branching()) for seed in range(3)]
    x, _ = batch(9)
    ensemble = Ensemble(Branching(), tickets, backend)
    expected = torch.stack([ticket.apply(Branching()).eval()(x) for ticket in tickets])
    for _ in range(2):
        torch.testing.assert_close(ensemble.logits(x), expected)
    assert "member after member, since vmap refuses" in ensemble.note
    for wrong in (x[:, :, :2], x.double()):
        with pytest.raises((RuntimeError, RegrowError)):
            ensemble.logits(wrong)


class Deciding(Branching):
    """A decision on the input, which all members share: vmap can run it, but no graph may hold it."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x if bool(x.sum() > 0) else -x)
        return y


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_decision_on_the_input_is_taken_every_time(backend: str) -> None:
    tickets = [trained(seed, Deciding()) for seed in range(3)]
    x, _ = batch(9)
    ensemble = Ensemble(Deciding(), tickets, backend)
    with torch.no_grad():
        for given in (x, -x, x, -x):
            expected = torch.stack([ticket.apply(Deciding()).eval()(given) for ticket in tickets])
            torch.testing.assert_close(ensemble.logits(given), expected)
    assert ensemble.note == "one pass for all members"


def test_a_wrong_input_changes_nothing() -> None:
    tickets = [trained(seed) for seed in range(2)]
    x, _ = batch(9)
    ensemble = Ensemble(mlp(), tickets)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        ensemble.logits(x[:, :, :2])
    assert ensemble.note == "one pass for all members"


def test_to_another_type() -> None:
    tickets = [trained(seed) for seed in range(2)]
    ensemble, (x, _) = Ensemble(mlp(), tickets), batch(9)
    with torch.no_grad():
        single = ensemble(x)
        double = ensemble.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


def test_weights_of_greatest_likelihood() -> None:
    """Three members of which the second alone knows: it gets nearly all the weight; equals keep equal weights."""
    tickets = [trained(seed) for seed in range(3)]
    x, _ = batch(9, size=200)
    ensemble = Ensemble(mlp(), tickets)
    truth = torch.distributions.Categorical(ensemble.members(x)[1].detach().pow(4)).probs.argmax(-1)
    before = -ensemble.log_probabilities(x)[range(200), truth].mean()
    weights = ensemble.weigh([(x[:90], truth[:90]), (x[90:], truth[90:])])
    assert torch.isclose(weights.sum(), torch.tensor(1.0))
    assert -ensemble.log_probabilities(x)[range(200), truth].mean() < before
    assert weights.argmax() == 1
    twins = Ensemble(mlp(), [tickets[0]] * 2)
    torch.testing.assert_close(twins.weigh([(x, truth)]), torch.tensor([0.5, 0.5]))


def test_a_probability_that_underflows_has_a_logarithm() -> None:
    topology = Topology.full({"weight": (2, 1)})
    sure = Ticket({"weight": torch.tensor([300.0, 0.0])}, topology)
    ensemble = Ensemble(nn.Linear(1, 2, bias=False), [sure, sure])
    x = torch.ones(1, 1)
    assert ensemble(x)[0, 1] == 0.0
    torch.testing.assert_close(ensemble.log_probabilities(x), torch.tensor([[0.0, -300.0]]))


def test_refused_ensembles() -> None:
    tickets = [trained(0), trained(1)]
    with pytest.raises(RegrowError, match="at least one ticket"):
        Ensemble(mlp(), [])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0]):
        with pytest.raises(RegrowError, match="an ensemble of 2 needs as many"):
            Ensemble(mlp(), tickets, weights=weights)
    with pytest.raises(RegrowError, match="no batch was given"):
        Ensemble(mlp(), tickets).weigh([])
    with pytest.raises(RegrowError, match=r"'1\.bias' is \(40,\) in the ticket"):
        Ensemble(nn.Sequential(nn.Flatten(), nn.Linear(36, 41), *mlp()[2:]), tickets)
    with pytest.raises(RegrowError, match="the model has no such weight"):
        Ensemble(nn.Sequential(mlp()), tickets, "sparse")
    sites = Topology({"1.weight": tickets[0].topology.index("1.weight")}, {"1.weight": (40, 36)})
    fewer = Ticket(tickets[0].state_dict() | {"1.weight": tickets[0].state["1.weight"]}, sites)
    with pytest.raises(RegrowError, match="the same sparse sites"):
        Ensemble(mlp(), [tickets[0], fewer])


def test_convolutions_run_sparse_member_after_member() -> None:
    runs = [start("sparse", seed=seed) for seed in (0, 1)]
    tickets = [Ticket.of(*run[::2]) for run in runs]
    x = torch.randn(5, 1, 6, 6)
    sparse, masked = (Ensemble(tiny_model(), tickets, backend) for backend in ("sparse", "masked"))
    assert "member after member" in sparse.note
    torch.testing.assert_close(sparse(x), masked(x))
