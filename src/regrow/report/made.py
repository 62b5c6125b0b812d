"""How the runs were made, and what the page would show if it were there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from regrow.report.cells import Cell
from regrow.report.figure import Section
from regrow.report.predictions import evaluated
from regrow.report.read import Run, as_text


@dataclass(frozen=True)
class Made:
    """One recipe: its runs, the command that makes them again, and the recipe itself."""

    label: str
    folder: str
    command: str
    recipe: str
    seeds: str
    commits: str


def made(cells: Sequence[Cell]) -> list[Made]:
    return [
        Made(
            cell.label,
            cell.folder,
            f"regrow run {cell.recipe['name']}.yaml --seeds {','.join(str(run.seed) for run in cell.runs)}",
            cell.runs[0].text.strip(),
            ", ".join(str(run.seed) for run in cell.runs),
            ", ".join(dict.fromkeys(str(run.environment.get("commit") or "unknown")[:12] for run in cell.runs)),
        )
        for cell in cells
    ]


def environments(runs: Sequence[Run]) -> list[tuple[list[tuple[str, str]], int]]:
    """Each machine and set of versions, in words, and how many runs it made; commits are told by recipe."""
    found: dict[str, tuple[list[tuple[str, str]], int]] = {}
    for run in runs:
        told = [(key, _words(value)) for key, value in run.environment.items() if key != "commit" and value is not None]
        key = as_text(told)
        found[key] = (told, found[key][1] + 1 if key in found else 1)
    return sorted(found.values(), key=lambda pair: -pair[1])


def missing(cells: Sequence[Cell], sections: Sequence[Section]) -> list[tuple[str, str]]:
    """(what is not shown and why, the command that would produce it), a line each."""
    keys = {section.key for section in sections}
    titles = {figure.title for section in sections for figure in section.figures}
    runs = [run for cell in cells for run in cell.runs if run.result]
    here = str((runs or [run for cell in cells for run in cell.runs])[0].folder.path)
    again = f"regrow run {here}/recipe.yaml"
    sparse = [run for cell in cells for run in cell.runs if cell.sparse]
    judged = [run for run in runs if run.judged.get("systems")]

    def titled(start: str) -> bool:
        return any(title.startswith(start) for title in titles)

    def known(key: str) -> bool:
        return any(evaluated(run, key) for run in judged)

    absent = [
        ("cost" not in keys, "Accuracy against cost: two recipes of finished runs.", "regrow report FOLDER"),
        (
            bool(runs) and all(len(c.results) < 2 for c in cells),
            "Intervals: several seeds.",
            f"{again} --seeds 0,1,2,3,4",
        ),
        (not runs, "No run is finished.", f"regrow resume {here}"),
        (
            bool(sparse) and not titled("R_s of each layer"),
            "R_s layer by layer: newer runs of methods that move connections.",
            f"{again} --runs FOLDER",
        ),
        (not titled("Birth and age"), "Births of connections: runs that move them.", "regrow run demo/rigl-itop"),
        (bool(runs) and not titled("Reliability"), "Reliability diagrams.", f"regrow evaluate {here}"),
        (bool(runs) and not known("brier"), "Brier score, AURC, temperature.", f"regrow evaluate {here}"),
        (bool(runs) and not known("corruption"), "Corruption heat map.", f"regrow evaluate {here} --corruptions"),
        (bool(runs) and not known("ood"), "Other data told apart.", f"regrow evaluate {here} --ood usual"),
        ("tickets" not in keys, "Tickets, and what lies between them.", "regrow run demo/freetickets"),
        ("choices" not in keys, "Ablations: runs that differ in one choice only.", "regrow suite SUITE"),
    ]
    return [(what, command) for is_absent, what, command in absent if is_absent]


def _words(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
