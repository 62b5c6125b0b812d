"""Write report.md, and figure.svg where matplotlib is installed, from results that may be partial."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import study as studies
from claims import Verdict, interval, judge
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from study import Result, Results, Rise, Study

from regrow.core.errors import RegrowError

HOME = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, default=HOME, metavar="FOLDER", help="of another study.yaml")
    home = parser.parse_args(arguments).study
    study = studies.load(home)
    results = studies.finished(study, home)
    (home / "report.md").write_text("\n".join(report(study, results)), encoding="utf-8")
    if results and find_spec("matplotlib"):
        figure(study, results, home / "figure.svg")
    print(f"{home / 'report.md'}: {len(results)} of {len(study.pairs)} runs, {core_hours(results):.2f} core-hours.")
    return 0


def report(study: Study, results: Results) -> Iterator[str]:
    """The lines of report.md."""
    yield f"# {study.name}\n"
    yield f"{study.about}. Written by `analyse.py` from `study.yaml` and `results.jsonl`; not to be edited.\n"
    yield from _standing(study, results)
    yield f"\n## Claims\n\n{study.rule.strip()}\n"
    for name, table in study.comparisons.items():
        unit = "mean ± half of the 95 % interval: points of test accuracy, or points per unit of R_s"
        yield f"### {name[0].upper()}{name[1:]}\n\n{unit}\n"
        yield from _table(
            ("claim", "seeds", "mean", "bound", "p", "p (Holm)", "verdict"),
            (_claim_row(verdict, len(study.seeds)) for verdict in judge(study, table, results)),
        )
        yield from _spearman(study, table, results)
        yield ""
    yield "## Cells\n\nTest accuracy in %, mean ± half of the 95 % t-interval over seeds, at the last iterate.\n"
    head = ("cell", "seeds", "sparsity", "batch", "steps", "test accuracy", "NLL", "R_s", "core-seconds a run")
    yield from _table(head, (_cell_row(study, cell, results) for cell in study.recipes))


def core_hours(results: Results) -> float:
    return sum(float(result["core_seconds"]) for result in results.values()) / 3600


def figure(study: Study, results: Results, path: Path) -> None:
    """Test accuracy against R_s, a line per batch size."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(6, 4), layout="constrained")
    axes = drawing.subplots()
    for comparison in (each for table in study.comparisons.values() for each in table if isinstance(each, Rise)):
        runs = [run for cell in comparison.cells if (run := _runs(study, cell, results))]
        if runs:
            x = [fmean(result["exploration_rate"] for result in run) for run in runs]
            means, halves = zip(*(interval(_points(run)) for run in runs), strict=True)
            batch = study.recipes[comparison.cells[0]].batch_size
            axes.errorbar(x, means, halves if all(len(run) > 1 for run in runs) else None, marker="o", label=f"{batch}")
    axes.set(xlabel="exploration rate R_s", ylabel="test accuracy, %")
    axes.legend(title="batch size")
    drawing.savefig(path, metadata={"Date": None})


def _standing(study: Study, results: Results) -> Iterator[str]:
    """How much is there, what is missing, what it cost, and what code made it."""
    yield f"{len(results)} of {len(study.pairs)} runs have finished, in {core_hours(results):.2f} core-hours."
    for kind, cells in (("primary", study.cells.primary), ("secondary", study.cells.secondary)):
        short = {cell: [seed for seed in study.seeds if (cell, seed) not in results] for cell in cells}
        gaps = "; ".join(
            cell if len(seeds) == len(study.seeds) else f"{cell} (seeds {', '.join(map(str, seeds))})"
            for cell, seeds in short.items()
            if seeds
        )
        yield f"\nMissing {kind} runs: {gaps}." if gaps else f"\nNo {kind} run is missing."
    sources = {f"{str(r['commit'])[:12]}{' with changes' if r['dirty'] else ''}" for r in results.values()}
    stacks = {f"torch {e['torch']}, {e['instruction set']}, {e['cpu']}" for e in _environments(results.values())}
    if results:
        yield f"\nMade at {', '.join(sorted(sources))}; {'; '.join(sorted(stacks))}."


def _claim_row(verdict: Verdict, seeds: int) -> Iterable[str]:
    if verdict.mean is None or verdict.half_width is None or verdict.p is None or verdict.p_adjusted is None:
        return verdict.claim, f"{verdict.seeds} of {seeds}", "", f"{verdict.bound:g}", "", "", verdict.word
    mean = f"{verdict.mean:+.2f} ± {verdict.half_width:.2f}"
    p_values = f"{verdict.p:.2g}", f"{verdict.p_adjusted:.2g}"
    return verdict.claim, f"{seeds}", mean, f"{verdict.bound:g}", *p_values, f"**{verdict.word}**"


def _cell_row(study: Study, cell: str, results: Results) -> Iterable[str]:
    recipe, runs = study.recipes[cell], _runs(study, cell, results)
    settings = f"{len(runs)}", f"{1 - (recipe.density or 1):.0%}", f"{recipe.batch_size}"
    if not runs:
        return cell, *settings, "", "", "", "", ""
    mean, half = interval(_points(runs))
    accuracy = f"{mean:.2f} ± {half:.2f}" if len(runs) > 1 else f"{mean:.2f}"
    nll, explored, cost = (fmean(r[key] for r in runs) for key in ("test_nll", "exploration_rate", "core_seconds"))
    return cell, *settings, f"{runs[0]['steps']}", accuracy, f"{nll:.4f}", f"{explored:.3f}", f"{cost:.0f}"


def _spearman(study: Study, table: Sequence[studies.Comparison], results: Results) -> Iterator[str]:
    """Beside each slope, whether the rise is monotone; described, not tested."""
    for comparison in table:
        if not isinstance(comparison, Rise):
            continue
        rows = [[results.get((cell, seed)) for cell in comparison.cells] for seed in study.seeds]
        whole = [[result for result in row if result] for row in rows if all(row)]
        if whole:
            ranks = [spearmanr([r["exploration_rate"] for r in row], _points(row)).statistic for row in whole]
            yield f"\nSpearman's rank correlation, {comparison.claim}: {fmean(ranks):.2f}, mean of {len(ranks)} seeds."


def _runs(study: Study, cell: str, results: Results) -> list[Result]:
    return [results[cell, seed] for seed in study.seeds if (cell, seed) in results]


def _points(runs: Iterable[Result]) -> list[float]:
    return [100.0 * result["test_accuracy"] for result in runs]


def _environments(results: Iterable[Result]) -> Iterator[Result]:
    return (result["environment"] for result in results)


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
