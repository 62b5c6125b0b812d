"""Make the lines of a study that are missing: `python -m benchmarks.studies.run itop_fashion_mnist --workers 2`.

Stop it when you like: finished lines are in results.jsonl, a run under way continues from its last checkpoint. Runs
that a later line is made of stay in the study's folder `runs` until that one is there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from itertools import groupby
from pathlib import Path
from time import process_time
from typing import Any

import torch
from benchmarks.studies import study as studies
from benchmarks.studies.measures import measured
from benchmarks.studies.study import Pair, Result, Study

from regrow.core.errors import RegrowError, choose
from regrow.lab.crew import Died, together
from regrow.lab.engines.base import Task, train
from regrow.lab.evaluation import Subject
from regrow.recipe.folders import wanted
from regrow.tickets import Ticket
from regrow.tickets.superpose import superpose
from regrow.train.devices import threads
from regrow.train.paths import RunFolder
from regrow.train.record import read_json, rows

ENVIRONMENT = ("regrow", "torch", "python", "threads", "instruction set", "device", "cpu", "packages")

Source = dict[str, Any]
Outcome = Result | RegrowError | Died


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing failed."""
    options = _options(arguments)
    home = studies.home_of(options.study)
    study = studies.load(home)
    done = studies.finished(study, home)
    for cell in options.only:
        choose(study.changes, cell, "cell")
    if options.list:
        print("\n".join(_listed(study, done)))
        return 0
    missing = to_do(study, home, done, options.only)
    print(f"{study.name}: {len(missing)} to go.", flush=True)
    failures = 0
    for at, (pair, outcome) in enumerate(_outcomes(study, home, missing, options.workers, options.device), 1):
        failures += not isinstance(outcome, dict)
        print(f"{at}/{len(missing)}  {pair[0]} seed {pair[1]}: {_told(outcome)}", flush=True)
        _sweep(study, home)
    return min(failures, 1)


def to_do(study: Study, home: Path, done: studies.Results, only: Sequence[str] = ()) -> list[Pair]:
    """What is missing, and the runs it is made of: those whose line is there but whose folder is not are made again."""
    lines = {pair for pair in study.pairs if pair not in done and (not only or pair[0] in only)}
    sources = {source for pair in lines for source in study.sources(pair)}
    again = {pair for pair in sources if not _folder(study, home, pair).finished}
    return [pair for pair in study.pairs if pair in lines | again]


def run_pair(home: Path, cell: str, seed: int, device: str, source: Source) -> Result:
    """Train one run, or what is left of it, or derive what is not trained; then add its line."""
    study = studies.load(home)
    began, pair = process_time(), (cell, seed)
    derived = cell in study.derived
    before = 0.0 if derived else _seconds(_folder(study, home, pair))
    with threads(study.recipe(cell).threads):
        facts = _derive(study, home, pair) if derived else _train(study, home, pair, device)
    folder = _folder(study, home, (study.sources(pair) or [pair])[0])
    environment = read_json(folder.environment)
    result = {
        "cell": cell,
        "seed": seed,
        "recipe": study.fingerprint(cell),
        **facts,
        "core_seconds": round(before + process_time() - began, 2),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **source,
        "environment": {key: environment[key] for key in ENVIRONMENT},
    }
    studies.add(home, result)
    return result


def _train(study: Study, home: Path, pair: Pair, device: str) -> Result:
    recipe, folder = wanted(study.recipes[pair[0]], pair[1], home / "runs")
    outcome = train(Task(recipe, folder, None, torch.get_num_threads(), device))
    facts = _spent([outcome]) | {
        "test_accuracy": outcome["test_accuracy"],
        "test_nll": outcome["test_loss"],
        "val_accuracy": outcome["val_accuracy"],
        "exploration_rate": outcome["exploration_rate"],
        "density": outcome["density"],
    }
    return facts | (measured(Subject.of(folder.path), study.measures) if study.measures else {})


def _derive(study: Study, home: Path, pair: Pair) -> Result:
    assert study.measures, "checked with the study"
    folders = [_folder(study, home, source) for source in study.sources(pair)]
    outcomes = [read_json(folder.result) for folder in folders]
    if average := study.derived[pair[0]].superpose:
        path = folders[0].path / "tickets" / f"{pair[0]}.safetensors"
        tickets = (Ticket.load(file) for file in folders[0].tickets() if file.stem.isdecimal())
        superpose(tickets, average.build(_unjudged)).save(path)
        subject = Subject.of(path)
    else:
        subject = Subject.together(Subject.of(folder.path) for folder in folders)
    shares = {key: outcomes[0][key] for key in ("exploration_rate", "density")}
    return _spent(outcomes) | shares | measured(subject, study.measures)


def _unjudged(ticket: Ticket) -> float:
    raise RegrowError("a derived average is of all tickets: it has neither a guard nor is it greedy")


def _spent(outcomes: Sequence[Result]) -> Result:
    """On all of the runs: steps, seconds, and FLOPs of training as a share of one dense run of reference length."""
    return {
        "steps": sum(outcome["steps"] for outcome in outcomes),
        "seconds": round(sum(outcome["seconds"] for outcome in outcomes), 2),
        "training_flops": sum(outcome["flops"]["training_ratio"] for outcome in outcomes),
    }


def source_now(home: Path) -> Source:
    """The commit this runs from, and whether code that decides results differs from it."""

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(here), *command], capture_output=True, text=True).stdout.strip()

    here = Path(__file__).parent
    root = git("rev-parse", "--show-toplevel") or "."
    deciding = [here / "study.py", here / "measures.py", here / "run.py", home.resolve() / "study.yaml"]
    changed = git("status", "--porcelain", "--", f"{root}/src", *map(str, deciding))
    return {"commit": git("rev-parse", "HEAD") or None, "dirty": bool(changed)}


def _outcomes(
    study: Study, home: Path, pairs: Iterable[Pair], workers: int, device: str
) -> Iterator[tuple[Pair, Outcome]]:
    """Each pair with its result or its error, as they end; a failure does not stop the others. What is derived waits
    for all that is trained before it."""
    attempt = partial(_attempt, home, device, source_now(home))
    for _, group in groupby(pairs, lambda pair: pair[0] in study.derived):
        several = list(group)
        yield from ((pair, attempt(pair)) for pair in several) if workers == 1 else together(attempt, several, workers)


def _attempt(home: Path, device: str, source: Source, pair: Pair) -> Result | RegrowError:
    try:
        return run_pair(home, *pair, device, source)
    except RegrowError as error:
        return error


def _sweep(study: Study, home: Path) -> None:
    """Remove the folders of runs whose line is there and which no missing line is made of."""
    done = studies.finished(study, home)
    needed = {source for pair in study.pairs if pair not in done for source in study.sources(pair)}
    for pair in done.keys() - needed:
        if pair[0] in study.recipes:
            shutil.rmtree(_folder(study, home, pair).path, ignore_errors=True)


def _folder(study: Study, home: Path, pair: Pair) -> RunFolder:
    return RunFolder.of(study.recipes[pair[0]].folder, pair[1], home / "runs")


def _seconds(folder: RunFolder) -> float:
    """Training seconds, on one thread, that earlier calls have put into this run."""
    before = rows(folder)
    return float(before[-1]["seconds"]) if before else 0.0


def _told(outcome: Outcome) -> str:
    if not isinstance(outcome, dict):
        return f"FAILED: {outcome}"
    accuracy, explored, seconds = (outcome[key] for key in ("test_accuracy", "exploration_rate", "core_seconds"))
    return f"test {100 * accuracy:.2f} %, R_s {explored:.3f}, {seconds:.0f} core-seconds"


def _listed(study: Study, done: studies.Results) -> Iterator[str]:
    to_go = 0.0
    for cell in study.changes:
        seeds = study.seeds_of(cell)
        there = [seed for seed in seeds if (cell, seed) in done]
        kind = "primary" if cell in study.cells.primary else "secondary"
        cost = study.expected(cell, done)
        to_go += (cost or 0.0) * (len(seeds) - len(there))
        each = "" if cost is None else f", {cost:.0f} core-seconds each"
        yield f"{cell:26} {kind:10} {study.fingerprint(cell):14} {len(there)} of {len(seeds)} seeds done{each}"
    spent = sum(float(result["core_seconds"]) for result in done.values())
    yield f"{spent / 3600:.2f} core-hours spent; about {to_go / 3600:.2f} to go, cells without an estimate left out."


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="its folder, or the name of one in benchmarks/")
    parser.add_argument("--only", action="append", default=[], metavar="CELL", help="only this cell; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto; a line says which")
    parser.add_argument("--list", action="store_true", help="say what is done and what the rest costs, and run nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RegrowError as error:
        sys.exit(f"{error}")
