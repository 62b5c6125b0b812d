"""Make the runs of the study that are missing: `python benchmarks/itop_fashion_mnist/run.py --workers 2`.

Stop it when you like: finished runs are in results.jsonl, one under way continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import study as studies
from study import Result, Study

from regrow.core.errors import RegrowError, choose
from regrow.recipe.build import job_of
from regrow.train.devices import launched
from regrow.train.loop import fit
from regrow.train.paths import RunFolder
from regrow.train.record import read_json, rows

HOME = Path(__file__).parent
ENVIRONMENT = ("regrow", "torch", "python", "threads", "instruction set", "device", "cpu", "packages")

Source = dict[str, Any]
Pair = tuple[str, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing failed."""
    options = _options(arguments)
    study = studies.load(options.study)
    done = studies.finished(study, options.study)
    for cell in options.only:
        choose(study.recipes, cell, "cell")
    wanted = [pair for pair in study.pairs if not options.only or pair[0] in options.only]
    if options.list:
        print("\n".join(_listed(study, done)))
        return 0
    missing = [pair for pair in wanted if pair not in done]
    print(f"{study.name}: {len(missing)} of {len(wanted)} runs to go.", flush=True)
    failures = 0
    for at, (pair, outcome) in enumerate(_outcomes(options.study, missing, options.workers), 1):
        failures += isinstance(outcome, RegrowError)
        print(f"{at}/{len(missing)}  {pair[0]} seed {pair[1]}: {_told(outcome)}", flush=True)
    return min(failures, 1)


def run_pair(home: Path, cell: str, seed: int, source: Source) -> Result:
    """Train one run, or what is left of it, and add its line; then its folder goes."""
    study = studies.load(home)
    recipe = study.recipes[cell]
    folder = RunFolder.of(recipe.folder, seed, home / "runs")
    before, began = _seconds(folder), process_time()
    with launched("cpu") as fabric:
        outcome = fit(job_of(recipe, seed), folder, fabric)
    environment = read_json(folder.environment)
    result = {
        "cell": cell,
        "seed": seed,
        "recipe": recipe.hash8,
        "test_accuracy": outcome["test_accuracy"],
        "test_nll": outcome["test_loss"],
        "val_accuracy": outcome["val_accuracy"],
        "exploration_rate": outcome["exploration_rate"],
        "density": outcome["density"],
        "steps": outcome["steps"],
        "seconds": round(outcome["seconds"], 2),
        "core_seconds": round(before + process_time() - began, 2),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **source,
        "environment": {key: environment[key] for key in ENVIRONMENT},
    }
    studies.add(home, result)
    shutil.rmtree(folder.path)
    return result


def source_now() -> Source:
    """The commit this runs from, and whether code that decides results differs from it."""

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(HOME), *command], capture_output=True, text=True).stdout.strip()

    root = git("rev-parse", "--show-toplevel") or "."
    changed = git("status", "--porcelain", "--", f"{root}/src", "study.yaml", "study.py", "run.py")
    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(changed)}


def _outcomes(home: Path, pairs: list[Pair], workers: int) -> Iterator[tuple[Pair, Result | RegrowError]]:
    """Each pair with its result or its error, as they end; a failed run does not stop the others."""
    source = source_now()
    if workers == 1:
        for pair in pairs:
            try:
                yield pair, run_pair(home, *pair, source)
            except RegrowError as error:
                yield pair, error
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        under_way = {pool.submit(run_pair, home, *pair, source): pair for pair in pairs}
        for future in as_completed(under_way):
            try:
                yield under_way[future], future.result()
            except RegrowError as error:
                yield under_way[future], error


def _seconds(folder: RunFolder) -> float:
    """Training seconds, on one thread, that earlier calls have put into this run."""
    before = rows(folder)
    return float(before[-1]["seconds"]) if before else 0.0


def _told(outcome: Result | RegrowError) -> str:
    if isinstance(outcome, RegrowError):
        return f"FAILED: {outcome}"
    accuracy, explored, seconds = (outcome[key] for key in ("test_accuracy", "exploration_rate", "core_seconds"))
    return f"test {100 * accuracy:.2f} %, R_s {explored:.3f}, {seconds:.0f} core-seconds"


def _listed(study: Study, done: studies.Results) -> Iterator[str]:
    for cell, recipe in study.recipes.items():
        seeds = [seed for seed in study.seeds if (cell, seed) in done]
        kind = "primary" if cell in study.cells.primary else "secondary"
        yield f"{cell:26} {kind:10} {recipe.hash8}  {len(seeds)} of {len(study.seeds)} seeds done"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="CELL", help="only this cell; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--list", action="store_true", help="say what is done, and run nothing")
    parser.add_argument("--study", type=Path, default=HOME, metavar="FOLDER", help="of another study.yaml")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RegrowError as error:
        sys.exit(f"{error}")
