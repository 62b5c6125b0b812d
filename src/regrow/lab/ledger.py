"""The results ledger: what a suite has found, in a dated file that names recipes, commit, versions and hardware."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from regrow.core.errors import RegrowError
from regrow.lab.suite import Course
from regrow.recipe.suite import Entry
from regrow.train.record import Record, read_json, write_json

LEDGER = Path("results")
METRICS = ("test_accuracy", "test_nll", "test_ece", "density", "exploration_rate", "seconds")
WHERE = ("commit", "regrow", "torch", "python", "cpu", "cores", "threads", "instruction set", "device", "platform")


def write(course: Course, ledger: Path = LEDGER) -> Path:
    """The file of today, of what has finished; a suite that goes on the same day writes it again.

    Raises:
        RegrowError: nothing has finished.
    """
    cells: dict[str, list[Entry]] = {}
    for entry in course.entries:
        if course.run_of(entry).finished:
            cells.setdefault(json.dumps(entry.cell), []).append(entry)
    if not cells:
        raise RegrowError(f"{course.folder.path}: no run has finished, so there is nothing for {ledger}")
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    path = ledger / f"{today}-{course.expanded.folder}.json"
    suite, environments = course.expanded.suite, list[Record]()
    rows = [_row(course, entries, environments) for entries in cells.values()]
    content = {"suite": suite.name, "hash": course.expanded.hash8, "about": suite.about, "date": today}
    write_json(path, content | {"environments": environments, "results": rows})
    return path


def _row(course: Course, entries: list[Entry], environments: list[Record]) -> Record:
    """One cell: per metric a value for each seed; the environments are told once, by their number."""
    recipe, runs = entries[0].recipe, [course.run_of(entry) for entry in entries]
    results = [read_json(run.result) for run in runs]
    flops = results[0].get("flops") or {}
    where = []
    for run in runs:
        environment = {key: value for key, value in read_json(run.environment).items() if key in WHERE}
        if environment not in environments:
            environments.append(environment)
        where.append(environments.index(environment))
    return {
        "values": entries[0].cell,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash8,
        "data": recipe.data.name,
        "model": recipe.model.name,
        "seeds": [entry.seed for entry in entries],
        **{metric: [result.get(metric) for result in results] for metric in METRICS},
        "tickets": [_of_tickets(result) for result in results],
        "training_flops_ratio": flops.get("training_ratio"),
        "inference_flops_ratio": flops.get("inference_ratio"),
        "environment": where,
    }


def _of_tickets(result: Record) -> dict[str, Any]:
    """Test accuracy of the run's tickets together and averaged, if it has any."""
    found = {"ensemble": result.get("ensemble"), "superposed": result.get("superposed")}
    return {name: judged["test_accuracy"] for name, judged in found.items() if judged}


def read(ledger: Path = LEDGER) -> list[Record]:
    """The files of the ledger, oldest first.

    Raises:
        RegrowError: a file is no JSON.
    """
    return [read_json(path) for path in sorted(ledger.glob("*.json"))]
