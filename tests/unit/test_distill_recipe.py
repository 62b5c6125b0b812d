"""Recipes with a teacher: what is learnt, what it costs, killed and resumed, refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from interrupt import Interrupted, stop_at
from regrow import RegrowError
from regrow.lab.evaluation import Subject
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.outlook import outlook
from regrow.metrics.probabilities import ensemble
from regrow.recipe.build import job_of
from regrow.recipe.folders import keep, wanted
from regrow.recipe.load import dump, load
from regrow.recipe.schema import Recipe
from regrow.recipe.teacher import Teacher, teachers
from regrow.tickets import Ticket
from regrow.tickets.distill import divergence
from regrow.train.loop import fit
from regrow.train.paths import RunFolder

BASE = ["data.name=synthetic:1x4x4x4", "model.hidden=[16]", "threads=1", "batch_size=64", "method.every.interval=3"]
EDST = [*BASE, "plan.explore=1", "plan.refine=[1]", "plan.tickets=2"]
FLAT = ["data.name=synthetic:1x4x4x4", "model.hidden=[16]", "threads=1", "batch_size=64", "epochs=2", "backend=masked"]


def run(name: str, runs: Path, settings: list[str], seed: int = 0) -> RunFolder:
    recipe, folder = wanted(load(f"demo/{name}", settings), seed, runs)
    keep(recipe, folder)
    fit(job_of(recipe, seed), folder)
    return folder


def student(teacher: object, *settings: str) -> Recipe:
    return load("demo/static", [*FLAT, f"distill.teacher={teacher}", *settings])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_a_student_is_taught_by_the_ensemble(backend: str, runs: Path) -> None:
    taught = run("freetickets", runs, [*EDST, f"backend={backend}"])
    job = job_of(student(taught.path, "distill.temperature=2.0", "distill.share=0.7"), 0)
    assert job.distillation
    distillation = job.distillation()
    x, y = next(iter(job.data.evaluate("test")))
    mean = ensemble(Subject.of(taught.path).predictions([(x, y)])[0][:2])
    torch.testing.assert_close(distillation.teacher(x).double(), mean, atol=1e-6, rtol=0)
    z = job.model(x)
    by_hand = 0.7 * divergence(z, mean.float(), 2.0) + 0.3 * job.loss(z, y)
    torch.testing.assert_close(distillation.loss(x, job.loss)(z, y), by_hand)


def test_its_result_counts_the_teachers_answers(runs: Path) -> None:
    taught = run("freetickets", runs, [*EDST, "backend=masked"])
    plain, folder = wanted(load("demo/static", FLAT), 0, runs)
    keep(plain, folder)
    without = fit(job_of(plain, 0), folder)
    recipe, folder = wanted(student(taught.path), 0, runs)
    keep(recipe, folder)
    assert load(folder.recipe) == recipe
    result = fit(job_of(recipe, 0), folder)
    assert result["model_digest"] != without["model_digest"]
    samples, counted = result["steps"] * recipe.batch_size, result["flops"]
    told = load(taught.recipe)
    per_sample = 2 * job_of(told, 0).flops["inference"]  # type: ignore[index]
    assert counted["training_teacher"] == samples * per_sample
    assert counted["training"] == without["flops"]["training"] + samples * per_sample
    assert counted["inference"] == without["flops"]["inference"]


def test_its_plan_counts_them_once_the_teacher_is_there(runs: Path) -> None:
    recipe, folder = wanted(student("runs/teacher/seed_{seed}"), 0, runs)
    early = outlook(Draft.of(recipe), calibrated=False)
    assert any("have not finished" in note for note in early.notes)
    run("freetickets", runs, [*EDST, "backend=masked"]).path.parent.rename(runs / "teacher")
    ahead = outlook(Draft.of(recipe), calibrated=False)
    keep(recipe, folder)
    result = fit(job_of(recipe, 0), folder)
    assert ahead.flops["training"] == pytest.approx(result["flops"]["training"])
    assert ahead.flops["training_teacher"] == result["flops"]["training_teacher"]
    assert early.flops["training"] == pytest.approx(ahead.flops["training"] - ahead.flops["training_teacher"])
    assert not any("have not finished" in note for note in ahead.notes)


def test_killed_at_every_step(runs: Path) -> None:
    taught = run("freetickets", runs, [*EDST, "backend=sparse"])
    recipe = student(taught.path, "tweaks=[label-smoothing]", "distill.share=0.5", "backend=sparse")
    job = partial(replace, checkpoint_every=1)
    whole, folder = (RunFolder(runs / name) for name in ("whole", "cut"))
    result = fit(job(job_of(recipe, 0)), whole)
    for step in range(2, result["steps"] + 1):
        with pytest.raises(Interrupted):
            fit(job(job_of(recipe, 0)), folder, on_progress=stop_at(step))
    resumed = fit(job(job_of(recipe, 0)), folder)
    assert [resumed[key] for key in ("model_digest", "loss")] == [result[key] for key in ("model_digest", "loss")]


def test_another_teacher_does_not_go_on(runs: Path) -> None:
    taught = run("freetickets", runs, [*EDST, "backend=masked"])
    recipe, folder = student(taught.path), RunFolder(runs / "cut")
    with pytest.raises(Interrupted):
        fit(replace(job_of(recipe, 0), checkpoint_every=1), folder, on_progress=stop_at(3))
    Ticket.load(taught.ticket(1)).save(taught.ticket(0))
    with pytest.raises(RegrowError, match="has learnt from another teacher, which was changed since"):
        fit(job_of(recipe, 0), folder)


def test_runs_of_several_kinds_teach_together(runs: Path) -> None:
    tickets = run("freetickets", runs, [*EDST, "backend=masked"])
    dense = [s for s in FLAT if not s.startswith("backend")]
    seeds = [run("dense", runs, dense, seed) for seed in (0, 1)]
    recipe = student([str(tickets.path), str(seeds[0].path.parent / "seed_{seed}")])
    assert recipe.distill
    assert [left.folder.path for left in teachers(recipe.distill, 1)] == [tickets.path, seeds[1].path]
    both = student(f"[{tickets.path}, {seeds[0].path.parent}]")
    job = job_of(both, 0)
    assert job.distillation
    teacher = job.distillation().teacher
    assert isinstance(teacher, Teacher)
    assert teacher.shares == [0.5, 0.5]
    x, y = next(iter(job.data.evaluate("test")))
    paths = (tickets.path, seeds[0].path, seeds[1].path)
    all_four = torch.cat([Subject.of(path).predictions([(x, y)])[0][:2] for path in paths])
    torch.testing.assert_close(teacher(x).double(), ensemble(all_four), atol=1e-6, rtol=0)
    one = job_of(student(tickets.ticket(1)), 0)
    assert one.distillation
    torch.testing.assert_close(one.distillation().teacher(x), all_four[1], atol=1e-6, rtol=0)


def test_what_cannot_teach_is_refused_and_leaves_nothing(runs: Path) -> None:
    missing, folder = wanted(student(runs / "nowhere"), 0, runs)
    with pytest.raises(RegrowError, match="nowhere holds no run"):
        keep(missing, folder)
    assert not folder.path.exists()
    taught = run("freetickets", runs, [*EDST, "backend=masked"])
    other = job_of(student(taught.path, "data.name=synthetic:1x4x4x5"), 0)
    assert other.distillation
    with pytest.raises(RegrowError, match="synthetic:1x4x4x4: it cannot teach about synthetic:1x4x4x5"):
        other.distillation()
    with pytest.raises(RegrowError, match="no ticket in the folder `tickets` of its run"):
        teachers(student(taught.path / "tickets" / "9.safetensors").distill, 0)  # type: ignore[arg-type]
    with pytest.raises(RegrowError, match="'mimo' is several networks with a loss each"):
        job_of(student(taught.path, "method=null", "density=null", "model.name=mimo"), 0)
    taught.result.unlink()
    with pytest.raises(RegrowError, match="is not finished"):
        keep(*wanted(student(taught.path), 0, runs))
    with pytest.raises(RegrowError, match="of the teacher in the loss"):
        student(taught.path, "distill.share=2.0")


def test_a_path_is_short_for_a_teacher_and_no_teacher_renames_nothing() -> None:
    recipe = load("demo/static", ["distill=runs/a/seed_0"])
    assert recipe.distill
    assert recipe.distill.teacher == ("runs/a/seed_0",)
    assert "distill: null" in dump(load("demo/static"))
    assert load("demo/static").folder == "digits-static-8557b20c"
