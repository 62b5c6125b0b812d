"""Plans in recipes: the papers' training FLOPs from the shipped ones, extended training, extension, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from regrow import RegrowError
from regrow.core.distributions import ERK
from regrow.core.schedules import Every
from regrow.metrics.flops import Ledger, dense_flops, run_flops
from regrow.recipe.build import job_of, method_of
from regrow.recipe.folders import keep, wanted
from regrow.recipe.load import load
from regrow.recipe.optim import plan_of
from regrow.recipe.schema import Recipe
from regrow.sparsifier.timetable import Timetable
from regrow.tickets import Ticket
from regrow.tickets.basin import Barrier, GreedySoup
from regrow.tickets.plan import capture_steps, learning_rate, total_steps
from regrow.tickets.superpose import CAA, CIA, CIMA
from regrow.train import checkpoint, harvest, models
from regrow.train.loop import fit
from regrow.train.paths import RunFolder
from regrow.train.record import Record, rows

DATA = {
    "cifar10": ((3, 32, 32), 10, 45_000),
    "cifar100": ((3, 32, 32), 100, 45_000),
    "folder:imagenet:224": ((3, 224, 224), 1000, 1_268_355),
}


def training_ratio(recipe: Recipe) -> float:
    """FLOPs of all its seeds over those of the dense reference, from its plan: nothing is trained or allocated."""
    shape, classes, samples = DATA[recipe.data.name]
    with torch.device("meta"):
        model = models.build(recipe.model.name, shape, classes, **recipe.model.options)
    dense = dense_flops(model, torch.empty(1, *shape, device="meta"))
    assert recipe.method
    assert recipe.density
    method, steps = method_of(recipe.method), samples // recipe.batch_size
    plan = plan_of(recipe, steps)
    updates = Timetable(plan).updates(method.every)
    ledger = Ledger(total_steps(plan), recipe.batch_size, updates, method.needs)
    densities = ERK()({name: tuple(model.get_parameter(name).shape) for name in dense}, recipe.density)
    counted = run_flops(dense, densities, ledger, reference_steps=recipe.compared_epochs * steps)
    return counted["training_ratio"] * len(recipe.seeds)


@pytest.mark.parametrize(
    ("name", "settings", "seeds", "printed"),
    [
        ("cifar10-wrn28-10-dst", [], 3, 1.02),
        ("cifar10-wrn28-10-edst", [], 1, 0.61),
        ("cifar100-wrn28-10-edst", [], 1, 0.61),
        ("cifar10-wrn28-10-edst", ["plan.tickets=7", "sparsity=0.9"], 1, 0.57),
        ("imagenet-resnet50-edst", [], 1, 0.855),
    ],
)
def test_training_flops_of_the_papers(name: str, settings: list[str], seeds: int, printed: float) -> None:
    recipe = load(f"freetickets/{name}", settings)
    recipe = recipe.model_copy(update={"seeds": tuple(range(seeds))})
    assert training_ratio(recipe) == pytest.approx(printed, abs=0.006)


@pytest.mark.parametrize(
    ("name", "epochs", "tickets"),
    [
        ("freetickets/cifar10-wrn28-10-edst", 450, (250, 350, 450)),
        ("freetickets/imagenet-resnet50-edst", 310, (100, 170, 240, 310)),
        ("freetickets/cifar10-wrn28-10-dst", 250, (250,)),
        ("sup_tickets/cifar10-vgg16-rigl", 250, (234, 242, 250)),
        ("sup_tickets/imagenet-resnet50-rigl", 100, (94, 96, 98, 100)),
    ],
)
def test_lengths_of_the_papers(name: str, epochs: int, tickets: tuple[int, ...]) -> None:
    recipe = load(name)
    assert recipe.total_epochs == epochs
    assert capture_steps(plan_of(recipe, 1)) == tickets
    doubled = load(name, ["multiplier=2"])
    assert doubled.total_epochs == 2 * epochs
    assert capture_steps(plan_of(doubled, 3)) == tuple(6 * epoch for epoch in tickets)


def test_the_recipes_schedule_is_that_of_the_first_phase() -> None:
    """Sup-tickets: .1, drops at 113 and 169, then .001 to .005 and back. ImageNet EDST: five epochs of warm-up."""
    rate = learning_rate(plan_of(load("sup_tickets/cifar10-vgg16-rigl"), 10))
    assert [0.1 * rate(10 * epoch) for epoch in (112, 113, 168, 169, 225, 226, 230)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.005]
    )
    rate = learning_rate(plan_of(load("freetickets/imagenet-resnet50-edst"), 10))
    assert [0.1 * rate(step) for step in (0, 24, 49, 50, 299, 300, 600, 900, 1000)] == pytest.approx(
        [0.002, 0.05, 0.1, 0.1, 0.1, 0.01, 0.001, 0.0001, 0.01]
    )


@pytest.mark.parametrize(
    ("name", "updates"),
    [("sup_tickets/cifar10-vgg16-rigl", 79 + 3), ("freetickets/cifar10-wrn28-10-edst", 52 + 3 * 35 + 2)],
)
def test_the_papers_number_of_updates(name: str, updates: int) -> None:
    assert Timetable(plan_of(load(name), 351)).updates(Every(1000)) == updates


BASE = ["data.name=synthetic:1x4x4x4", "model.hidden=[16]", "threads=1", "backend=masked", "method.every.interval=2"]
SHORT = {
    "freetickets": [*BASE, "batch_size=128", "plan.explore=1", "plan.refine=[1, 1]", "plan.tickets=2"],
    "sup-tickets": [*BASE, "batch_size=128", "plan.train=1", "plan.cycle=1", "plan.cycles=2"],
}


def run(name: str, runs: Path, *settings: str) -> tuple[RunFolder, Record, list[int]]:
    recipe, folder = wanted(load(f"demo/{name}", [*SHORT[name], *settings]), 0, runs)
    keep(recipe, folder)
    steps: list[int] = []
    result = fit(job_of(recipe, 0), folder, on_progress=lambda progress: steps.append(progress.step))
    return folder, result, steps


@pytest.mark.parametrize(("name", "more"), [("freetickets", "plan.tickets=3"), ("sup-tickets", "plan.cycles=3")])
def test_more_tickets_go_on_from_fewer(name: str, more: str, tmp_path: Path) -> None:
    first, _, steps = run(name, tmp_path / "a")
    second, result, added = run(name, tmp_path / "a", more)
    fresh, whole, every = run(name, tmp_path / "b", more)
    assert first != second
    assert added == every[len(steps) :]
    assert result["tickets"] == whole["tickets"]
    assert result["model_digest"] == whole["model_digest"]
    assert [row["step"] for row in rows(second)] == [row["step"] for row in rows(fresh)]
    assert first.finished  # the shorter run stays what it was
    assert len(list(first.path.glob("tickets/[0-9]*"))) == 2


def test_a_sup_tickets_run_leaves_its_average(tmp_path: Path) -> None:
    folder, result, _ = run("sup-tickets", tmp_path)
    average = Ticket.load(folder.superposed)
    assert average.topology.nnz == result["nnz"] == result["superposed"]["nnz"]
    assert checkpoint.digest(Ticket.load(folder.ticket(1)).state) != checkpoint.digest(average.state)
    assert result["superposed"]["by"] == "cia"
    folder, result, _ = run(
        "sup-tickets", tmp_path, "plan.include_pretrained=true", "superpose={name: cima, decay: 0.8}"
    )
    assert len(result["tickets"]) == 3
    assert result["superposed"]["by"] == "cima 0.8"


def test_looks_at_validation_as_seldom_as_asked(tmp_path: Path) -> None:
    often, result, _ = run("sup-tickets", tmp_path / "often")
    seldom, same, _ = run("sup-tickets", tmp_path / "seldom", "evaluate_every=3")
    assert same["model_digest"] == result["model_digest"], "looking changes nothing"
    looked = {row["epoch"]: row["val_accuracy"] for row in rows(seldom) if row["val_accuracy"] is not None}
    epochs = [row["epoch"] for row in rows(often)]
    assert set(looked) == {epoch for epoch in epochs if epoch % 3 == 0 or epoch == epochs[-1]}


def test_tickets_of_another_basin_are_left_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal is in the result, and nothing is averaged."""
    with monkeypatch.context() as patch:
        patch.setattr(Barrier, "height", 0.7)
        folder, result, _ = run("sup-tickets", tmp_path, "superpose={name: cia, guard: 0.5}")
    assert result["superposed"] is None
    assert "ticket 1 lies in another basin than ticket 0" in result["refused"]
    assert "0.5 is let pass (loss along the line: " in result["refused"]
    assert not folder.superposed.exists()
    folder, result, _ = run("sup-tickets", tmp_path, "superpose={name: cia, guard: 1000.0}")
    assert result["superposed"]["test_accuracy"] > 0
    for looks in ("{name: cia, guard: 1.0}", "greedy"):
        with pytest.raises(RegrowError, match="there is none; hold one out"):
            job_of(load("demo/sup-tickets", [f"superpose={looks}", "data.validation=0.0"]), 0)


def test_a_greedy_average_leaves_out_what_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone the first ticket has a loss of 1 and the second of 2, together 1.5."""
    losses = iter([1.0, 2.0, 1.0, 1.5])
    monkeypatch.setattr(harvest, "between_tickets", lambda *_: [])
    monkeypatch.setattr(harvest.Harvest, "_loss", lambda *_: next(losses))
    folder, result, _ = run("sup-tickets", tmp_path, "superpose=greedy")
    assert (result["superposed"]["by"], result["superposed"]["tickets"]) == ("greedy cia", 1)
    first, average = Ticket.load(folder.ticket(0)), Ticket.load(folder.superposed)
    assert all(torch.equal(average.state[name], weights) for name, weights in first.state.items())


def test_what_averages() -> None:
    made = {
        name: load("demo/sup-tickets", [f"superpose={text}"]).average
        for name, text in {"cia": "cia", "caa": "{name: caa, prune: layer}", "cima": "cima", "greedy": "greedy"}.items()
    }
    kinds = {name: type(spec.build(lambda ticket: 0.0)) for name, spec in made.items() if spec}
    assert kinds == {"cia": CIA, "caa": CAA, "cima": CIMA, "greedy": GreedySoup}
    assert load("demo/freetickets").average is None
    assert load("demo/rigl-itop").average is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=3", "has both `epochs` and a `plan`"),
        ("plan=null", "has neither `epochs` nor a `plan`"),
        ("plan.tickets=0", "`plan.tickets` is 0, but should be greater than 0 (how many tickets, > 0)"),
        ("plan.refine=3", "`plan.refine` is 3, but should be a valid tuple"),
        ("plan.refin=[1]", "unknown key `plan.refin` (value [1]); did you mean 'refine'?"),
        ("plan=edts", "`plan.name` is 'edts'; did you mean 'edst'?"),
        ("plan.fraction=2", "`plan.fraction` is 2, but should be less than or equal to 1 (share replaced"),
        ("superpose={name: cia, decay: 0.3}", "`decay` belongs to cima"),
        ("superpose={name: caa, each: true}", "`each` belongs to cia"),
        ("superpose={name: greedy, guard: 1.0}", "`guard` refuses what greedy leaves out"),
    ],
)
def test_refusals(setting: str, words: str) -> None:
    with pytest.raises(RegrowError) as caught:
        load("demo/freetickets", [setting])
    assert words in str(caught.value)


def test_refusals_of_plans_and_schedules() -> None:
    with pytest.raises(RegrowError, match="has `superpose` but no `plan`"):
        load("demo/rigl-itop", ["superpose=cia"])
    with pytest.raises(RegrowError, match="the plan 'snapshot' sets the learning rate itself"):
        load("demo/sup-tickets", ["plan={name: snapshot, cycle: 3, cycles: 2}"])
    snapshot = load("demo/freetickets", ["plan={name: snapshot, cycle: 3, cycles: 2}"])
    assert snapshot.total_epochs == 6
