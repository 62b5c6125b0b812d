"""Density schedules by hand: where they start, stand and end, and what a pruning leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regrow
from regrow import RegrowError
from regrow.core.schedules import Every
from regrow.core.site import Clock, Site
from regrow.core.topology import Topology
from regrow.methods.pruning import pruned, scheduled
from regrow.tickets.plan import sup_tickets


def site(name: str, weight: list[float]) -> Site:
    return Site(name, (1, 8), torch.arange(len(weight), dtype=torch.int32), torch.tensor(weight), len(weight))


def density_at(step: int, window: Every, total: int = 1000) -> float:
    return scheduled(Clock(step, total, 0.0, 0.1), window, 1.0)


def test_the_schedule_ends_exactly_at_its_last_update() -> None:
    """500 steps of window hold updates at 120, 240, 360 and 480: the last one is the end."""
    window = Every(120, end=0.5)
    assert density_at(120, window) == pytest.approx(0.1 + 0.9 * 0.75**3)
    assert density_at(360, window) == pytest.approx(0.1 + 0.9 * 0.25**3)
    assert [density_at(step, window) for step in (480, 600, 1000)] == [0.1] * 3


def test_between_updates_it_holds() -> None:
    window = Every(100, end=0.5)
    assert density_at(99, window) == 1.0
    assert density_at(199, window) == density_at(100, window)
    assert density_at(150, Every(100, start=0.4, end=0.8)) == 1.0


def test_a_window_without_an_update_is_made_up_for_by_the_next() -> None:
    assert density_at(300, Every(300, end=0.2)) == 0.1


def test_the_largest_of_all_layers_stay_and_no_layer_is_emptied() -> None:
    sites = {"a": site("a", [5.0, -4.0, 3.0, -2.0]), "b": site("b", [0.1, -0.2]), "c": site("c", [3.0, 3.0])}
    left = pruned(sites, 5)
    assert {name: s.index.tolist() for name, s in left.items()} == {"a": [0, 1, 2], "b": [1], "c": [0]}
    assert pruned(sites, 8) == sites


def test_a_single_update_prunes_in_one_shot() -> None:
    model, sparsifier = run("gmp", Every(8, end=1.0), steps=10)
    assert sparsifier.last_update == {"step": 8, "grown": 0, "nnz": 20}
    weights = model.weight[sparsifier.topology["weight"]]
    assert weights.numel() == 20


def test_pruned_weights_may_grow_again() -> None:
    """Density 1, then .2 and back: gradient growth chooses among all that is not kept."""
    _, sparsifier = run("granet", Every(5), steps=5, initial=1.0, fraction=0.5, until=0.5)
    assert sparsifier.last_update is not None
    assert sparsifier.topology.nnz == 20
    assert (Topology.full(sparsifier.topology.shapes) - sparsifier.topology).nnz == 80


def test_a_layer_that_no_backward_pass_reached_is_pruned_but_does_not_move() -> None:
    model = nn.ModuleDict({"used": nn.Linear(10, 10), "idle": nn.Linear(10, 10)})
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="granet", density=0.2, total_steps=20, every=5, initial=0.6)
    first = sparsifier.topology
    for _ in range(5):
        model["used"](torch.randn(4, 10)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.topology.nnz == 50
    assert (sparsifier.topology - first).nnz > 0
    assert (sparsifier.topology - first).nnz_of("idle.weight") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 0.6}, r"pruning from density 0\.5 to 0\.6"),
        ({"initial": 1.5}, r"pruning from density 1\.5 to 0\.2.*at most at 1"),
        ({"density": None, "topology": Topology.full({"weight": (10, 10)})}, r"needs density=\.\.\."),
        ({"topology": Topology.full({"weight": (10, 10)})}, r"density 0\.5 contradicts the topology"),
    ],
)
def test_impossible_schedules(changes: dict[str, Any], message: str) -> None:
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    setup: dict[str, Any] = {"method": "granet", "density": 0.2, "total_steps": 20, "every": 5} | changes
    with pytest.raises(RegrowError, match=message):
        regrow.sparsify(model, optimizer, **setup)


@pytest.mark.parametrize("window", [Every(5, end=0.4), Every(5, start=0.6)])
def test_a_pruning_that_could_not_end_is_refused(window: Every) -> None:
    """Without it the run would end above its density, or stop at its first update."""
    with pytest.raises(RegrowError, match=r"until=0\.5: pruning ends while there are updates, which go from"):
        run("granet", window, steps=0)


def test_a_dense_start_may_be_a_topology_or_a_trained_model() -> None:
    full = Topology.full({"weight": (10, 10)})
    starts: list[Any] = [full, "magnitude", "uniform"]
    firsts = [run("gmp", Every(5), steps=0, topology=start)[1].topology for start in starts]
    assert firsts == [full, full, full]


def run(method: str, every: Every, steps: int, **setup: Any) -> tuple[nn.Linear, regrow.Sparsifier]:
    torch.manual_seed(0)
    model = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = regrow.sparsify(model, optimizer, method=method, density=0.2, total_steps=10, every=every, **setup)
    for step in range(steps):
        inputs: Tensor = torch.randn(6, 10, generator=torch.Generator().manual_seed(step))
        (model(inputs) - 1).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return model, sparsifier


def test_under_a_plan_cycles_explore_at_the_final_density() -> None:
    """Sup-tickets on GraNet: the first phase prunes, the cycles hold the density and move weights."""
    plan = sup_tickets(20, 4, 2)
    model = nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="granet", density=0.2, plan=plan, every=5)
    sizes, updates = [], []
    for step in range(28):
        model(torch.randn(6, 10, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        sizes.append(sparsifier.topology.nnz)
        updates.append(sparsifier.last_update and sparsifier.last_update["step"])
    assert [sizes[step - 1] for step in (4, 5, 9, 10, 20, 28)] == [50, 24, 24, 20, 20, 20]
    assert sorted({*updates} - {None}) == [5, 10, 15, 20, 21, 25]


def test_another_density_is_another_setup() -> None:
    _, saved = run("gmp", Every(5), steps=3)
    _, other = run("gmp", Every(5), steps=0)
    other.load_state_dict(saved.state_dict())
    other._density = 0.3
    with pytest.raises(RegrowError, match=r"density: saved 0\.2, here 0\.3"):
        other.load_state_dict(saved.state_dict())
