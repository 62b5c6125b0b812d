"""The ITOP study's machinery: a miniature study, killed and resumed; verdicts on made-up results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.core.errors import RegrowError

HOME = Path(__file__).parents[2] / "benchmarks" / "itop_fashion_mnist"

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
    """The study's modules, importable as they are for the scripts themselves."""
    monkeypatch.syspath_prepend(str(HOME))
    import analyse
    import claims
    import run
    import study

    return type("Scripts", (), {"analyse": analyse, "claims": claims, "run": run, "study": study})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(MINI)
    return tmp_path


def made_up(scripts: Any, home: Path, accuracy: dict[str, list[float]], explored: dict[str, float]) -> None:
    study = scripts.study.load(home)
    for cell, values in accuracy.items():
        for seed, value in enumerate(values):
            line = {"cell": cell, "seed": seed, "recipe": study.recipes[cell].hash8, "test_accuracy": value}
            line |= {"test_nll": 0.5, "exploration_rate": explored[cell], "steps": 40, "core_seconds": 1800.0}
            line |= {"commit": "c0ffee", "dirty": False}
            line["environment"] = {"torch": "2", "instruction set": "AVX", "cpu": "a CPU"}
            scripts.study.add(home, line)


def lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "results.jsonl").read_text().splitlines()]


def test_the_committed_study_is_whole(scripts: Any) -> None:
    study = scripts.study.load(HOME)
    assert study.seeds == (0, 1, 2, 3, 4)
    assert {recipe.epochs for recipe in study.recipes.values()} == {10}
    for comparison in study.comparisons["primary"]:
        assert set(comparison.cells) <= set(study.cells.primary)
    assert study.pairs[0] == ("dense", 0)


def test_runs_what_is_missing_and_continues_what_was_killed(
    scripts: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_fit = scripts.run.fit

    def killed_after_one_epoch(*arguments: Any, **options: Any) -> Any:
        def stop(progress: Any) -> None:
            if progress.row:
                raise KeyboardInterrupt

        return real_fit(*arguments, **options, on_progress=stop)

    call = ["--study", str(home), "--workers", "1"]
    monkeypatch.setattr(scripts.run, "fit", killed_after_one_epoch)
    with pytest.raises(KeyboardInterrupt):
        scripts.run.main([*call, "--only", "sparse"])
    assert not (home / "results.jsonl").exists()

    steps = []
    monkeypatch.setattr(
        scripts.run, "fit", lambda *a, **k: real_fit(*a, **k, on_progress=lambda p: steps.append(p.step))
    )
    assert scripts.run.main([*call, "--only", "sparse"]) == 0
    assert [(line["cell"], line["seed"]) for line in lines(home)] == [("sparse", 0), ("sparse", 1)]
    per_run = lines(home)[0]["steps"]
    assert len(steps) == per_run // 2 + per_run, "the killed run went on from its first epoch"
    assert not list((home / "runs").rglob("*.pt"))

    assert scripts.run.main([*call, "--list"]) == 0
    assert "2 of 2" in capsys.readouterr().out
    assert scripts.run.main(call) == 0
    assert [(line["cell"], line["seed"]) for line in lines(home)[2:]] == [
        ("dense", 0),
        ("dense", 1),
        ("static", 0),
        ("static", 1),
    ]
    assert all(line["core_seconds"] > 0 and 0 < line["test_accuracy"] <= 1 for line in lines(home))
    assert lines(home)[2]["exploration_rate"] == 1.0
    assert scripts.analyse.main(["--study", str(home)]) == 0
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
    assert scripts.analyse.main(["--study", str(home)]) == 0
    text = (home / "report.md").read_text()
    assert "3 of 6 runs have finished, in 1.50 core-hours." in text
    assert "Missing primary runs: sparse (seeds 1)." in text
    assert "Missing secondary runs: static." in text
    assert "| sparse beats dense | 1 of 2 |  | 0 |  |  | incomplete |" in text
    assert "| dense | 2 | 0% | 64 | 40 | 90.50 ± 6.35 | 0.5000 | 1.000 | 1800 |" in text
    assert "1.50 core-hours" in capsys.readouterr().out
    assert not (home / "figure.svg").exists()


def test_the_figure(scripts: Any, home: Path) -> None:
    pytest.importorskip("matplotlib")
    made_up(scripts, home, {"static": [0.8, 0.81], "sparse": [0.88, 0.89]}, {"static": 0.5, "sparse": 0.7})
    assert scripts.analyse.main(["--study", str(home)]) == 0
    assert "<svg" in (home / "figure.svg").read_text()
