"""Write a study's report.md, and its figure.svg where matplotlib is installed, from results that may be partial.

python -m benchmarks.studies.analyse itop_fashion_mnist
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

from benchmarks.studies import study as studies
from benchmarks.studies.claims import Verdict, interval, judge, points, worth
from benchmarks.studies.study import Result, Results, Rise, Study
from scipy.stats import spearmanr  # type: ignore[import-untyped]

from regrow.core.errors import RegrowError

MEASURES = {
    "test_nll": "NLL",
    "test_ece": "ECE",
    "corrupted_accuracy": "c%",
    "corrupted_nll": "cNLL",
    "corrupted_ece": "cECE",
    "fgsm_accuracy": "FGSM",
    "pgd_accuracy": "PGD",
    "auroc_mnist": "AUROC MNIST",
    "auroc_not_mnist": "AUROC notMNIST",
    "auroc_cifar100": "AUROC CIFAR-100",
    "training_flops": "training FLOPs",
}
"""Means over seeds; c: under corruption; FLOPs of training as a share of one dense run of reference length."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its folder, or the name of one in benchmarks/")
    home = studies.home_of(parser.parse_args(arguments).study)
    study = studies.load(home)
    results = studies.finished(study, home)
    (home / "report.md").write_text("\n".join(report(study, results)) + "\n", encoding="utf-8")
    rises = [each for table in study.comparisons.values() for each in table if isinstance(each, Rise)]
    if results and rises and find_spec("matplotlib"):
        figure(study, rises, results, home / "figure.svg")
    print(f"{home / 'report.md'}: {len(results)} of {len(study.pairs)} runs, {core_hours(results):.2f} core-hours.")
    return 0


def report(study: Study, results: Results) -> Iterator[str]:
    """The lines of report.md."""
    yield f"# {study.name}\n"
    yield f"{study.about}. Written by `analyse.py` from `study.yaml` and `results.jsonl`; not to be edited.\n"
    yield from _standing(study, results)
    yield f"\n## Claims\n\n{study.rule.strip()}\n"
    for name, table in study.comparisons.items():
        yield f"### {name[0].upper()}{name[1:]}\n\n{_unit(study)}\n"
        yield from _table(
            ("claim", "seeds", "mean", "bound", "p", "p (Holm)", "verdict"),
            map(_claim_row, judge(study, table, results)),
        )
        yield from _spearman(study, table, results)
        yield ""
    yield "## Cells\n\nTest accuracy in %, mean ± half of the 95 % t-interval over seeds, at the last iterate.\n"
    measures = [key for key in MEASURES if any(key in result for result in results.values())] or ["test_nll"]
    head = ("cell", "seeds", "sparsity", "batch", "steps", "test accuracy", *(MEASURES[key] for key in measures))
    rows = (_cell_row(study, cell, measures, results) for cell in study.changes)
    yield from _table((*head, "R_s", "seconds" if study.measures else "core-seconds a run"), rows)
    yield from _systems(study, results)


def core_hours(results: Results) -> float:
    return sum(float(result["core_seconds"]) for result in results.values()) / 3600


def figure(study: Study, rises: Iterable[Rise], results: Results, path: Path) -> None:
    """Test accuracy against R_s, a line per batch size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots()
    for comparison in rises:
        runs = [run for cell in comparison.cells if (run := _runs(study, cell, results))]
        if runs:
            x = [fmean(result["exploration_rate"] for result in run) for run in runs]
            means, halves = zip(*(interval(points(run)) for run in runs), strict=True)
            batch = study.recipe(comparison.cells[0]).batch_size
            axes.errorbar(x, means, halves if all(len(run) > 1 for run in runs) else None, marker="o", label=f"{batch}")
    axes.set(xlabel="exploration rate R_s", ylabel="test accuracy, %")
    axes.legend(title="batch size")
    with rc_context({"svg.hashsalt": study.name}):  # the same file each time
        drawing.savefig(path, metadata={"Date": None})


def _unit(study: Study) -> str:
    other = "nats of NLL" if study.measures else "points per unit of R_s"
    return f"mean ± half of the 95 % interval: points{'' if study.measures else ' of test accuracy'}, or {other}"


def _standing(study: Study, results: Results) -> Iterator[str]:
    """How much is there, what is missing, what it cost, and what code made it."""
    yield f"{len(results)} of {len(study.pairs)} runs have finished, in {core_hours(results):.2f} core-hours."
    for kind, cells in (("primary", study.cells.primary), ("secondary", study.cells.secondary)):
        short = {cell: [seed for seed in study.seeds_of(cell) if (cell, seed) not in results] for cell in cells}
        gaps = "; ".join(
            cell if len(seeds) == len(study.seeds_of(cell)) else f"{cell} (seeds {', '.join(map(str, seeds))})"
            for cell, seeds in short.items()
            if seeds
        )
        yield f"\nMissing {kind} runs: {gaps}." if gaps else f"\nNo {kind} run is missing."
    sources = {f"{str(r['commit'])[:12]}{' with changes' if r['dirty'] else ''}" for r in results.values()}
    environments = [result["environment"] for result in results.values()]
    stacks = {f"torch {e['torch']}, {e['instruction set']}, {e['cpu']}" for e in environments}
    if results:
        yield f"\nMade at {', '.join(sorted(sources))}; {'; '.join(sorted(stacks))}."


def _claim_row(verdict: Verdict) -> Iterable[str]:
    if verdict.mean is None or verdict.p is None or verdict.p_adjusted is None:
        return verdict.claim, f"{verdict.seeds} of {verdict.of}", "", f"{verdict.bound:g}", "", "", verdict.word
    digits = 2 if abs(verdict.mean) >= 0.1 or verdict.half_width is None else 3
    half = "" if verdict.half_width is None else f" ± {verdict.half_width:.{digits}f}"
    p_values = f"{verdict.p:.2g}", f"{verdict.p_adjusted:.2g}"
    mean = f"{verdict.mean:+.{digits}f}{half}"
    return verdict.claim, f"{verdict.seeds}", mean, f"{verdict.bound:g}", *p_values, f"**{verdict.word}**"


def _cell_row(study: Study, cell: str, measures: Sequence[str], results: Results) -> Iterable[str]:
    recipe, runs = study.recipe(cell), _runs(study, cell, results)
    density = runs[0]["density"] if runs else recipe.density or 1  # a ticket brings its own
    settings = f"{len(runs)}", f"{1 - density:.0%}", f"{recipe.batch_size}"
    if not runs:
        return cell, *settings, *[""] * (len(measures) + 4)
    numbers = (_mean(runs, key) for key in measures)
    explored = fmean(run["exploration_rate"] for run in runs)
    cost = fmean(run["seconds" if study.measures else "core_seconds"] for run in runs)
    return cell, *settings, f"{runs[0]['steps']}", _accuracy(runs), *numbers, f"{explored:.3f}", f"{cost:.0f}"


def _systems(study: Study, results: Results) -> Iterator[str]:
    """Of the lines with several predictors: every ticket, the ensemble, the average."""
    rows = []
    for cell in study.changes:
        runs = [run["systems"] for run in _runs(study, cell, results) if len(run.get("systems", ())) > 1]
        for system in runs[0] if runs else ():
            ours = [run[system] for run in runs]
            rows.append(
                (cell, system, f"{len(ours)}", _accuracy(ours), _mean(ours, "test_nll"), _mean(ours, "test_ece"))
            )
    if rows:
        yield "\n## Predictors\n\nOf a cell with several tickets: each alone, together, averaged.\n"
        yield from _table(("cell", "predictor", "seeds", "test accuracy", "NLL", "ECE"), rows)


def _accuracy(lines: Sequence[Result]) -> str:
    mean, half = interval(points(lines))
    return f"{mean:.2f} ± {half:.2f}" if len(lines) > 1 else f"{mean:.2f}"


def _mean(lines: Sequence[Result], measure: str) -> str:
    """NLL and FLOPs as they are, the rest in %."""
    if not all(measure in line for line in lines):
        return ""
    if measure.endswith(("nll", "flops")):
        return f"{fmean(line[measure] for line in lines):.{4 if measure.endswith('nll') else 2}f}"
    return f"{fmean(abs(worth(line, measure)) for line in lines):.2f}"


def _spearman(study: Study, table: Sequence[studies.Comparison], results: Results) -> Iterator[str]:
    """Beside each slope, whether the rise is monotone; described, not tested."""
    for comparison in table:
        if not isinstance(comparison, Rise):
            continue
        rows = [[results.get((cell, seed)) for cell in comparison.cells] for seed in study.seeds]
        whole = [[result for result in row if result] for row in rows if all(row)]
        if whole:
            ranks = [spearmanr([r["exploration_rate"] for r in row], points(row)).statistic for row in whole]
            yield f"\nSpearman's rank correlation, {comparison.claim}: {fmean(ranks):.2f}, mean of {len(ranks)} seeds."


def _runs(study: Study, cell: str, results: Results) -> list[Result]:
    """The study's seeds of a cell, so that all cells are means over the same ones."""
    return [results[cell, seed] for seed in study.seeds_of(cell) if (cell, seed) in results]


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RegrowError as error:
        sys.exit(f"{error}")
