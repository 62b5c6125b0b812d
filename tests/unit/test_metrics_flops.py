"""FLOPs against counts by hand, and training costs against the formulas of the papers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow.core.errors import RegrowError
from regrow.core.schedules import Every
from regrow.metrics.flops import Ledger, Live, dense_flops, forward_flops, run_flops
from regrow.train import checkpoint

CPU, META = torch.device("cpu"), torch.device("meta")


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4, padding=1),
        nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 8 * 8, 10),
    )  # fmt: skip


@pytest.mark.parametrize("device", [CPU, META])
def test_convolutions_and_linear_layers(device: torch.device) -> None:
    flops = dense_flops(small(), torch.empty(1, 3, 16, 16, device=device))
    pixels = 8 * 8
    assert flops == {"0.weight": 2 * pixels * 8 * 27, "3.weight": 2 * pixels * 8 * 2 * 9, "6.weight": 2 * 512 * 10}


def test_the_model_is_left_as_it_was() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = regrow.sparsify(model, optimizer, density=0.5, total_steps=10, every=1)
    before = checkpoint.digest(dict(model.state_dict()))
    dense_flops(model, torch.randn(2, 3, 16, 16), sites=sparsifier.topology)
    assert checkpoint.digest(dict(model.state_dict())) == before
    assert all(module.training for module in model.modules())
    assert all(p.grad is None and p.requires_grad and p.device == CPU for p in model.parameters())
    model(torch.randn(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    assert sparsifier.last_update is not None


class Tied(nn.Module):
    """One weight, used twice: as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encode(x), self.encode.weight.t())


def test_a_weight_used_twice_costs_twice() -> None:
    assert dense_flops(Tied(), torch.empty(1, 6)) == {"encode.weight": 2 * 2 * 6 * 4}


def test_attention_counts_projections_part_by_part() -> None:
    """Queries see 5 positions, keys and values 7; the products of the attention map are no weight's."""
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    short, long = torch.empty(1, 5, 8), torch.empty(1, 7, 8)
    sites = [f"in_proj_weight[{part}]" for part in "qkv"]
    assert dense_flops(model, short, long, long, sites=sites) == {
        "in_proj_weight[q]": 2 * 5 * 64,
        "in_proj_weight[k]": 2 * 7 * 64,
        "in_proj_weight[v]": 2 * 7 * 64,
        "out_proj.weight": 2 * 5 * 64,
    }
    assert dense_flops(model, short, short, short) == {"in_proj_weight": 3 * 2 * 5 * 64, "out_proj.weight": 2 * 5 * 64}


def test_a_transformer_layer_does_not_take_the_fused_path() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = regrow.sparsify(model, optimizer, method="static", density=0.5).topology
    flops = dense_flops(model, torch.empty(1, 5, 8), sites=topology)
    assert set(flops) == set(topology)
    assert sum(flops.values()) == 2 * 5 * topology.numel
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_without_products_is_refused() -> None:
    with pytest.raises(RegrowError, match=r"no FLOPs to count: ReLU .*\(1, 3\)"):
        dense_flops(nn.ReLU(), torch.empty(1, 3))


def test_forward_counts_layers_without_a_density_as_dense() -> None:
    assert forward_flops({"a": 100, "b": 10}, {"a": 0.1}) == pytest.approx(20)


def test_cost_of_a_training_sample() -> None:
    sparse, dense, steps = 0.2, 1.0, 1000
    gradient, moment = frozenset({"dense_grad"}), frozenset({"moment", "dense_moment"})
    assert Ledger(steps, 1).per_sample(dense, dense) == pytest.approx(3 * dense)
    assert Ledger(steps, 1, 10).per_sample(sparse, dense) == pytest.approx(3 * sparse)
    assert Ledger(steps, 1, 10, moment).per_sample(sparse, dense) == pytest.approx(2 * sparse + dense)
    updates = Every(100, end=0.75).updates(steps)
    assert updates == 7
    rigl = Ledger(steps, 1, updates, gradient).per_sample(sparse, dense)
    assert rigl * steps == pytest.approx(3 * sparse * (steps - updates) + (2 * sparse + dense) * updates)


def test_rigl_formula_of_the_paper() -> None:
    """(3 f_S I + 2 f_S + f_D) / (I + 1): I plain steps, then one that an update replaces."""
    between = 100
    paper = (3 * 0.2 * between + 2 * 0.2 + 1.0) / (between + 1)
    ours = Ledger(50 * (between + 1), 1, 50, frozenset({"dense_grad"}))
    assert ours.per_sample(0.2, 1.0) == pytest.approx(paper, rel=1e-12)


def test_columns_of_a_run() -> None:
    """Masked execution is dense arithmetic; a run twice as long as its reference costs twice the ratio."""
    flops, ledger = {"a": 100, "b": 10}, Ledger(steps=20, batch_size=8, updates=10)
    run = run_flops(flops, {"a": 0.1, "b": 1.0}, ledger, reference_steps=10)
    assert run == {
        "inference": pytest.approx(20),
        "inference_executed": 110,
        "inference_dense": 110,
        "inference_ratio": pytest.approx(20 / 110),
        "training": pytest.approx(3 * 20 * 160),
        "training_executed": pytest.approx(3 * 110 * 160),
        "training_dense": 3 * 110 * 80,
        "training_ratio": pytest.approx(2 * 20 / 110),
    }


def test_what_a_sparse_backend_executes() -> None:
    """All of its sites; or, where `backend="auto"` has decided layer by layer, some."""
    for sparse, executed in ({"a", "b"}, 15), ({"a"}, 20), ((), 110):
        run = run_flops({"a": 100, "b": 10}, {"a": 0.1, "b": 0.5}, Ledger(1, 1), sparse=sparse)
        assert run["inference_executed"] == pytest.approx(executed)
        assert run["inference"] == pytest.approx(15)


def test_training_costs_the_mean_density_and_inference_the_last() -> None:
    run = run_flops({"a": 100, "b": 10}, {"a": 0.5}, Ledger(4, 2), final={"a": 0.1})
    assert run["inference"] == pytest.approx(20)
    assert run["training"] == pytest.approx(3 * 60 * 8)


@pytest.mark.parametrize("backend", ["masked", "sparse"])
@pytest.mark.parametrize("method", ["gmp", "granet", "snfs", "rigl"])
def test_mean_densities_are_those_of_the_steps(method: str, backend: str) -> None:
    """Counted by hand before every step; a run taken up half way counts on."""
    model = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = regrow.sparsify(model, optimizer, method=method, density=0.2, total_steps=12, every=3, backend=backend)
    seen = []
    for step in range(12):
        seen.append(sparsifier.topology.densities())
        model(torch.randn(5, 12)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 7:
            saved = sparsifier.state_dict()
    means = {name: sum(densities[name] for densities in seen) / 12 for name in sparsifier.topology}
    assert sparsifier.mean_densities() == pytest.approx(means)
    sparsifier.load_state_dict(saved)
    assert sparsifier.mean_densities() == pytest.approx(
        {name: sum(densities[name] for densities in seen[:8]) / 8 for name in sparsifier.topology}
    )


def test_live_counts_when_it_is_read() -> None:
    spent = {"training": 1.0}
    live = Live(lambda: spent)
    spent["training"] = 2.0
    assert dict(live) == {"training": 2.0}
    assert len(live) == 1
