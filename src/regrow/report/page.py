"""The page: everything that a set of run folders shows, in one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from regrow.report.cells import Cell, cells
from regrow.report.choices import choices
from regrow.report.compare import cells as in_words
from regrow.report.compare import compare
from regrow.report.costs import costs
from regrow.report.curves import learning
from regrow.report.figure import Section, Table
from regrow.report.layers import topology
from regrow.report.made import environments, made, missing
from regrow.report.predictions import predictions
from regrow.report.read import Found
from regrow.report.tickets import tickets
from regrow.report.words import percent
from regrow.train.paths import RUNS


def page(found: Found, path: Path) -> str:
    """The HTML of what was found at `path`."""
    shown = cells(found.runs)
    sections = sections_of(shown)
    html: str = _template().render(
        title=_title(shown, path),
        facts=_facts(found, shown),
        lead=_lead(shown),
        results=_results(shown),
        sections=sections,
        made=made(shown),
        environments=environments(found.runs),
        missing=missing(shown, sections) if shown else [],
        skipped=found.skipped,
        command=f"regrow report {path}",
        style=_sheet("page.css"),
        script=_sheet("page.js"),
    )
    return html


def sections_of(shown: Sequence[Cell]) -> list[Section]:
    """Those for which the runs hold data."""
    drawn = (draw(shown) for draw in (costs, learning, topology, predictions, tickets, choices))
    return [section for section in drawn if section]


def _results(shown: Sequence[Cell]) -> Table:
    labels = {cell.folder: cell.label for cell in shown}
    rows = compare(run for cell in shown for run in cell.runs)
    words = [in_words(row) for row in rows]
    names = [
        w["runs"].strip() if row.tickets else labels[row.runs] + w["runs"][len(row.runs) :]
        for w, row in zip(words, rows, strict=True)
    ]
    lines = [
        [f"… {name}" if row.tickets else name, *list(w.values())[1:]]
        for name, w, row in zip(names, words, rows, strict=True)
    ]
    caption = (
        "Means over seeds, ± one standard deviation; lines with … are what came of the tickets of the runs above. "
        "R_s is the share of weights that ever existed; FLOPs against a dense run of the same length, seconds and "
        "bytes against the dense runs here, where there are any. NLL in nats, ECE of 15 bins."
    )
    return Table("Results", caption, ["recipe", *list(words[0])[1:]] if words else [], lines)


def _title(shown: Sequence[Cell], path: Path) -> str:
    """A recipe's name, a suite's, or what the runs have in common."""
    if len(shown) == 1:
        return shown[0].label
    data = dict.fromkeys(str((cell.recipe.get("data") or {}).get("name")) for cell in shown)
    many = f"{len(shown)} recipes on {', '.join(data)}" if shown else "No runs"
    return many if path.resolve().name == RUNS.name else path.resolve().name


def _facts(found: Found, shown: Sequence[Cell]) -> list[tuple[str, str]]:
    """What is in view, in a line."""
    runs = found.runs
    finished, total = sum(bool(run.result) for run in runs), len(runs) + len(found.waiting)
    data = dict.fromkeys(str((run.recipe.get("data") or {}).get("name", "unknown")) for run in runs)
    machines = dict.fromkeys(str(run.environment.get("cpu", "unknown")) for run in runs)
    return [
        ("runs", str(total) if finished == total else f"{finished} of {total} finished"),
        ("recipes", str(len(shown))),
        ("data", ", ".join(data)),
        ("machine", ", ".join(machines)),
    ]


def _lead(shown: Sequence[Cell]) -> str:
    """The one sentence to take away."""
    known = [(cell, accuracy) for cell in shown if (accuracy := cell.accuracy)]
    if not known:
        return "No run is finished yet."
    cell, accuracy = max(known, key=lambda pair: pair[1].mean)
    seeds = "one seed" if accuracy.n == 1 else f"{accuracy.n} seeds"
    said = f"{cell.label} is the most accurate here: {percent(accuracy.mean)} on the test split, {seeds}"
    dense = next((a for c, a in known if not c.sparse), None)
    flops = (cell.results[0]["flops"] or {}).get("training_ratio")
    if len(known) == 1:
        said = f"{cell.label}: {percent(accuracy.mean)} on the test split, {seeds}"
    if flops and cell.sparse:
        said += f", for {percent(flops)} of the training FLOPs of dense"
    return said + (f", which reaches {percent(dense.mean)}." if dense and cell.sparse else ".")


def _template() -> Any:
    environment = Environment(
        loader=FunctionLoader(_sheet), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html")


def _sheet(name: str) -> str:
    return (files("regrow.report") / "sheet" / name).read_text(encoding="utf-8")
