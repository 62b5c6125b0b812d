"""The studies' machinery: miniature studies, killed and resumed, derived and measured; verdicts on made-up results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.core.errors import RegrowError
from regrow.lab.engines import base

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

MINI = """
name: mini
about: digits, one epoch
seeds: [0, 1]
rule: as in the study
base:
  data: digits
  model: {name: mlp, hidden: [16]}
  optimizer: {name: sgd, lr: 0.1}
  epochs: 2
  batch_size: 64
  threads: 1
cells:
  primary:
    dense: {}
    sparse: {sparsity: 0.5, method: {name: set-itop, every: {interval: 5}}}
  secondary:
    static: {sparsity: 0.5, method: static}
comparisons:
  primary:
    - {claim: sparse beats dense, of: sparse, against: dense}
    - {claim: sparse beats static, of: sparse, against: static}
    - {claim: rises, rises: [static, sparse, dense]}
"""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of benchmarks/studies, importable as they are from the clone's root."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.studies import analyse, claims, run, study

    return type("Scripts", (), {"analyse": analyse, "claims": claims, "run": run, "study": study})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(MINI)
    return tmp_path


def made_up(scripts: Any, home: Path, accuracy: dict[str, list[float]], explored: dict[str, float]) -> None:
    study = scripts.study.load(home)
    for cell, values in accuracy.items():
        for seed, value in enumerate(values):
            line = {"cell": cell, "seed": seed, "recipe": study.fingerprint(cell), "test_accuracy": value}
            line |= {"test_nll": 0.5, "exploration_rate": explored[cell], "steps": 40, "core_seconds": 1800.0}
            line |= {"density": 1.0 if cell == "dense" else 0.25}  # a ticket's own, as of lotteries
            line |= {"commit": "c0ffee", "dirty": False}
            line["environment"] = {"torch": "2", "instruction set": "AVX", "cpu": "a CPU"}
            scripts.study.add(home, line)


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "results.jsonl").read_text().splitlines()]


def test_the_committed_itop_study_is_whole(scripts: Any) -> None:
    study = scripts.study.load(BENCHMARKS / "itop_fashion_mnist")
    assert study.seeds == (0, 1, 2, 3, 4)
    assert {recipe.epochs for recipe in study.recipes.values()} == {10}
    for comparison in study.comparisons["primary"]:
        assert set(comparison.cells) <= set(study.cells.primary)
    assert study.pairs[0] == ("dense", 0)
    assert scripts.study.finished(study, BENCHMARKS / "itop_fashion_mnist"), "its lines belong to it"


@pytest.mark.parametrize(("name", "epochs"), [("tickets_fashion_mnist", 10), ("tickets_cifar10", 20)])
def test_the_committed_tickets_studies_are_whole(scripts: Any, name: str, epochs: int) -> None:
    study = scripts.study.load(BENCHMARKS / name)
    scripts.study.finished(study, BENCHMARKS / name)
    assert study.seeds == (0, 1, 2, 3, 4)
    for cell, recipe in study.recipes.items():
        assert recipe.compared_epochs == epochs
        tickets = {"edst-90-7-tickets": 34}.get(cell, round(epochs * 450 / 250) if "edst" in cell else epochs)
        assert recipe.total_epochs == tickets, "ten epochs a unit of the papers' length, twenty on CIFAR-10"
    for table in ("primary", "a difference over 15 seeds (Kolmogorov-Smirnov)"):
        for comparison in study.comparisons.get(table, ()):
            assert set(comparison.cells) <= set(study.cells.primary)


def test_runs_what_is_missing_and_continues_what_was_killed(
    scripts: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_fit = base.fit

    def killed_after_one_epoch(*arguments: Any, **options: Any) -> Any:
        def stop(progress: Any) -> None:
            if progress.row:
                raise KeyboardInterrupt

        return real_fit(*arguments, **options, on_progress=stop)

    call = [str(home), "--workers", "1"]
    monkeypatch.setattr(base, "fit", killed_after_one_epoch)
    with pytest.raises(KeyboardInterrupt):
        scripts.run.main([*call, "--only", "sparse"])
    assert not (home / "results.jsonl").exists()

    steps = []
    monkeypatch.setattr(base, "fit", lambda *a, **k: real_fit(*a, **k, on_progress=lambda p: steps.append(p.step)))
    assert scripts.run.main([*call, "--only", "sparse"]) == 0
    assert [(line["cell"], line["seed"]) for line in lines(home)] == [("sparse", 0), ("sparse", 1)]
    per_run = lines(home)[0]["steps"]
    assert len(steps) == per_run // 2 + per_run, "the killed run went on from its first epoch"
    assert not list((home / "runs").rglob("*.pt"))

    assert scripts.run.main([*call, "--list"]) == 0
    listed = capsys.readouterr().out
    assert "2 of 2" in listed
    assert "0.00 to go" in listed
    assert scripts.run.main(call) == 0
    assert [(line["cell"], line["seed"]) for line in lines(home)[2:]] == [
        ("dense", 0),
        ("dense", 1),
        ("static", 0),
        ("static", 1),
    ]
    assert all(line["core_seconds"] > 0 and 0 < line["test_accuracy"] <= 1 for line in lines(home))
    assert lines(home)[2]["exploration_rate"] == 1.0
    assert scripts.analyse.main([str(home)]) == 0
    assert "No primary run is missing." in (home / "report.md").read_text()


def test_a_torn_line_gives_way(scripts: Any, home: Path) -> None:
    made_up(scripts, home, {"dense": [0.9]}, {"dense": 1.0})
    with (home / "results.jsonl").open("a") as file:
        file.write('{"cell": "den')
    study = scripts.study.load(home)
    assert list(scripts.study.finished(study, home)) == [("dense", 0)]
    made_up(scripts, home, {"static": [0.8]}, {"static": 0.5})
    assert [line["cell"] for line in lines(home)] == ["dense", "static"]


def test_results_of_another_study_are_refused(scripts: Any, home: Path) -> None:
    made_up(scripts, home, {"static": [0.8]}, {"static": 0.5})
    (home / "study.yaml").write_text(MINI.replace("sparsity: 0.5, method: static", "sparsity: 0.6, method: static"))
    with pytest.raises(RegrowError, match="ran as recipe"):
        scripts.study.finished(scripts.study.load(home), home)


def test_an_unknown_cell_is_named(scripts: Any, home: Path) -> None:
    (home / "study.yaml").write_text(MINI.replace("against: static", "against: statc"))
    with pytest.raises(RegrowError, match="did you mean 'static'"):
        scripts.study.load(home)


def test_holm_by_hand(scripts: Any) -> None:
    # .01 x 4, then .02 x 3, then max(.06, .03 x 2), then max(.06, .5)
    assert scripts.claims.holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert scripts.claims.holm([0.6, 0.9]) == [1.0, 1.0]


def test_t_test_and_interval_by_hand(scripts: Any) -> None:
    values = [1.0, 2.0, 3.0]  # mean 2, standard error 1 / sqrt 3; t quantile of 2 degrees 4.302653
    mean, half = scripts.claims.interval(values)
    assert (mean, half) == (2.0, pytest.approx(4.302653 / 3**0.5, rel=1e-6))
    assert scripts.claims.p_value(values, 2.0 - half) == pytest.approx(0.05, rel=1e-6)
    assert scripts.claims.p_value([1.0, 1.0], 0.0) == 0.0
    assert scripts.claims.p_value([0.0, 0.0], 0.0) == 1.0


def test_slope_of_a_line(scripts: Any) -> None:
    assert scripts.claims.slope([0.1, 0.4, 0.9], [85.2, 85.8, 86.8]) == pytest.approx(2.0)


def test_verdicts(scripts: Any, home: Path) -> None:
    made_up(
        scripts,
        home,
        {"dense": [0.9, 0.9], "sparse": [0.85, 0.8501], "static": [0.80, 0.90]},
        {"dense": 1.0, "sparse": 0.9, "static": 0.5},
    )
    study = scripts.study.load(home)
    verdicts = scripts.claims.judge(study, study.comparisons["primary"], scripts.study.finished(study, home))
    assert [verdict.word for verdict in verdicts] == ["contradicted", "underpowered", "underpowered"]
    assert verdicts[0].mean == pytest.approx(-4.995)
    assert verdicts[0].p_adjusted == pytest.approx(3 * verdicts[0].p)


def test_matches_within_a_bound(scripts: Any, home: Path) -> None:
    (home / "study.yaml").write_text(MINI.replace("against: dense}", "against: dense, bound: -0.5}"))
    made_up(
        scripts,
        home,
        {"dense": [0.9, 0.9], "sparse": [0.8995, 0.89949]},  # -.05 points: below zero, above -.5
        {"dense": 1.0, "sparse": 0.9},
    )
    study = scripts.study.load(home)
    verdicts = scripts.claims.judge(study, study.comparisons["primary"], scripts.study.finished(study, home))
    assert [verdict.word for verdict in verdicts] == ["supported", "incomplete", "incomplete"]
    assert verdicts[0].p_adjusted == pytest.approx(3 * verdicts[0].p), "claims without results count in Holm's m"


def test_a_partial_report_says_what_is_missing(
    scripts: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up(scripts, home, {"dense": [0.9, 0.91], "sparse": [0.88]}, {"dense": 1.0, "sparse": 0.7})
    monkeypatch.setattr(scripts.analyse, "find_spec", lambda name: None)
    assert scripts.analyse.main([str(home)]) == 0
    text = (home / "report.md").read_text()
    assert "3 of 6 runs have finished, in 1.50 core-hours." in text
    assert "Missing primary runs: sparse (seeds 1)." in text
    assert "Missing secondary runs: static." in text
    assert "| sparse beats dense | 1 of 2 |  | 0 |  |  | incomplete |" in text
    assert "| dense | 2 | 0% | 64 | 40 | 90.50 ± 6.35 | 0.5000 | 1.000 | 1800 |" in text
    assert "| sparse | 1 | 75% | 64 | 40 |" in text
    assert "1.50 core-hours" in capsys.readouterr().out
    assert not (home / "figure.svg").exists()


def test_the_figure(scripts: Any, home: Path) -> None:
    made_up(scripts, home, {"static": [0.8, 0.81], "sparse": [0.88, 0.89]}, {"static": 0.5, "sparse": 0.7})
    assert scripts.analyse.main([str(home)]) == 0
    assert "<svg" in (home / "figure.svg").read_text()


TICKETS = """
name: tickets
about: digits, one epoch a phase
seeds: [0, 1]
rule: as in the study
measures: {ood: [noise], images: 60, kinds: [contrast], severities: [1, 5]}
costs: {dense: 60.0, sparse: [10.0, 100.0], line: 6.0}
base:
  data: digits
  model: {name: mlp, hidden: [16]}
  optimizer: {name: sgd, lr: 0.1}
  plan: {name: itop, epochs: 1}
  method: {name: rigl-itop, every: {interval: 5}}
  backend: sparse
  batch_size: 64
  threads: 1
cells:
  primary:
    dense: {method: null, backend: masked}
    sparse: {sparsity: 0.5, seeds: [0, 1, 2, 3]}
    dst: {of: sparse, members: 2}
    sup: {sparsity: 0.5, plan: {name: sup-tickets, train: 1, cycle: 1, cycles: 2}}
    sup-caa: {of: sup, superpose: caa}
  secondary:
    granet:
      sparsity: 0.5
      method: {name: granet, every: {interval: 5}}
      plan: {name: sup-tickets, train: 1, cycle: 1, cycles: 2}
comparisons:
  primary:
    - {claim: DST beats dense, of: dst, against: dense, measure: test_nll}
    - {claim: the average beats the ensemble, of: sup, against: sup, system: ensemble}
    - {claim: Sup differs from sparse, differs: [sup, sparse]}
"""


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(TICKETS)
    return tmp_path


def test_measures_ensembles_and_averages_without_training_them(
    scripts: Any, tickets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(tickets), "--workers", "1"]
    assert scripts.run.main([*call, "--only", "dst"]) == 0
    assert [(line["cell"], line["seed"]) for line in lines(tickets)] == [
        *(("sparse", seed) for seed in range(4)),
        ("dst", 0),
        ("dst", 1),
    ]
    single, dst = lines(tickets)[0], lines(tickets)[4]
    assert {"test_ece", "corrupted_nll", "fgsm_accuracy", "pgd_accuracy", "auroc_noise"} <= single["systems"][
        "member 0"
    ].keys()
    assert dst["system"] == "ensemble"
    assert dst["systems"]["member 0"]["test_accuracy"] == single["test_accuracy"]
    assert dst["systems"]["member 1"]["test_nll"] == lines(tickets)[1]["test_nll"]
    assert dst["training_flops"] == pytest.approx(2 * single["training_flops"])
    assert dst["diversity"]["overlap"] < 1
    assert not list((tickets / "runs").rglob("*.safetensors")), "nothing needs the members any more"

    # another machine has the lines but not the runs: what the derived line needs is trained again, its line is not new
    kept = [line for line in lines(tickets) if (line["cell"], line["seed"]) != ("dst", 1)]
    (tickets / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    assert scripts.run.main([*call, "--only", "dst"]) == 0
    assert lines(tickets)[-1]["cell"] == "dst"
    again = scripts.study.finished(scripts.study.load(tickets), tickets)
    assert again["dst", 1]["systems"]["member 0"]["test_nll"] == again["sparse", 2]["test_nll"], "the same run"

    assert scripts.run.main([*call, "--only", "sup", "--only", "sup-caa", "--only", "granet", "--only", "dense"]) == 0
    done = scripts.study.finished(scripts.study.load(tickets), tickets)
    assert done["sup", 0]["system"] == "superposed"
    assert set(done["sup", 0]["systems"]) == {"member 0", "member 1", "ensemble", "superposed"}
    assert set(done["sup-caa", 0]["systems"]) == {"sup-caa"}
    assert done["sup-caa", 0]["test_nll"] != done["sup", 0]["test_nll"]

    capsys.readouterr()
    assert scripts.analyse.main([str(tickets)]) == 0
    text = (tickets / "report.md").read_text()
    assert "No primary run is missing." in text
    assert "| DST beats dense | 2 |" in text
    assert "## Predictors" in text
    assert "AUROC" not in text, "noise has no column"
    assert not (tickets / "figure.svg").exists()


def test_estimates_before_anything_has_run(scripts: Any, tickets: Path) -> None:
    study = scripts.study.load(tickets)
    assert study.expected("dense", {}) == 66
    assert study.expected("sparse", {}) == pytest.approx(10 + 100 * 0.5 + 6)
    assert study.expected("sup", {}) == pytest.approx(3 * 60 + 6)
    assert study.expected("dst", {}) == 6
    assert study.expected("dense", {("dense", 0): {"core_seconds": 4.0}}) == 4


def test_an_ensemble_needs_seeds_that_are_run(scripts: Any, tickets: Path) -> None:
    (tickets / "study.yaml").write_text(TICKETS.replace("seeds: [0, 1, 2, 3]", "seeds: [0, 1, 2]"))
    with pytest.raises(RegrowError, match=r"'dst' needs seeds \[3\] of 'sparse'"):
        scripts.study.load(tickets)


def test_what_is_derived_is_measured(scripts: Any, tickets: Path) -> None:
    (tickets / "study.yaml").write_text(TICKETS.replace("measures: {", "# {"))
    with pytest.raises(RegrowError, match="cells dst, sup-caa train nothing: give the study `measures`"):
        scripts.study.load(tickets)


def test_other_measures_are_another_study(scripts: Any, tickets: Path) -> None:
    study = scripts.study.load(tickets)
    scripts.study.add(tickets, {"cell": "dense", "seed": 0, "recipe": study.fingerprint("dense")})
    (tickets / "study.yaml").write_text(TICKETS.replace("images: 60", "images: 50"))
    with pytest.raises(RegrowError, match="ran as recipe"):
        scripts.study.finished(scripts.study.load(tickets), tickets)


def test_the_lower_nll_is_better_and_whole_distributions_are_compared(scripts: Any, tickets: Path) -> None:
    study = scripts.study.load(tickets)
    results: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in range(4):
        results["dst", seed] = {"test_nll": 0.30 + 0.001 * seed}
        results["dense", seed] = {"test_nll": 0.35}
        results["sparse", seed] = {"test_accuracy": 0.80}
        ensemble = {"test_accuracy": 0.895}
        results["sup", seed] = {"test_accuracy": 0.90 + 0.001 * seed, "systems": {"ensemble": ensemble}}
    nll, system, differs = (scripts.claims.find(study, each, results) for each in study.comparisons["primary"])
    assert nll.mean == pytest.approx(0.0495)
    assert system.mean == pytest.approx(0.55)
    assert (differs.seeds, differs.half_width) == (2, None)
    assert differs.mean == pytest.approx(10.05)
    assert differs.p == pytest.approx(1 / 3)  # two against two, wholly apart: 2 of the 6 orders are as extreme
