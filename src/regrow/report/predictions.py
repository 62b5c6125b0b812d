"""What predictions are worth: calibration, other data, corrupted inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regrow.report.cells import Cell, best_of_kinds
from regrow.report.figure import Figure, Section, Table, heat
from regrow.report.plot import Plot
from regrow.report.read import Run
from regrow.report.words import percent, shown
from regrow.train.record import Record

SHOWN = 6  # diagrams

System = tuple[Cell, str, Record]  # of a run: the name of a predictor, and what is known of it


def predictions(cells: Sequence[Cell]) -> Section | None:
    """Of the best recipe of each kind, by its first seed."""
    systems = [system for cell in best_of_kinds(cells, SHOWN) for system in _systems(cell)]
    figures = [_reliability(*system) for system in systems if system[2].get("reliability")][:SHOWN]
    if (worn := _corruptions(systems)) is not None:
        figures.append(worn)
    figures += [figure for system in systems[:1] if (figure := _severities(*system))]
    tables = [table for table in (_evaluated(systems), _outside(systems)) if table]
    if not figures and not tables:
        return None
    about = "Whether confidence can be believed, and what is left of accuracy where inputs change. One seed each."
    return Section("predictions", "Predictions", about, figures, tables)


def _systems(cell: Cell) -> Iterator[System]:
    """The predictors of a cell's first judged run that stand for it: its last iterate, its ensemble, its average."""
    run = next((run for run in cell.runs if run.judged.get("systems")), None)
    if run is None:
        return
    found = run.judged["systems"]
    names = [name for name in ("ensemble", "superposed") if name in found] or ["last"]
    for name in names if names[0] in found else list(found)[:1]:
        yield cell, _named(cell, name), found[name]


def _named(cell: Cell, name: str) -> str:
    return cell.label if name in ("last", "member 0") else f"{cell.label}, {WORDS.get(name, name)}"


WORDS = {"ensemble": "together", "superposed": "averaged"}


def _reliability(cell: Cell, name: str, system: Record) -> Figure:
    bins = [row for row in system["reliability"] if row["count"]]
    samples = sum(row["count"] for row in bins)
    plot = Plot().axes([0.02, 0.98], [0.05, 0.95])
    plot.x_axis("confidence →", percent=True, ticks=[0, 0.25, 0.5, 0.75, 1])
    plot.y_axis("accuracy", percent=True, ticks=[0, 0.25, 0.5, 0.75, 1])
    for row in bins:
        left, right = plot.x.at(row["low"]), plot.x.at(row["high"])
        top, share = plot.y.at(row["accuracy"]), row["count"] / samples
        told = f"confidence {percent(row['confidence'])}: {percent(row['accuracy'])} right, {row['count']} samples"
        look = f"bar {cell.look}"
        plot.rect(
            left + 0.5, top, right - left - 1, plot.y.at(0) - top, look, told, f"opacity:{0.35 + 0.65 * share:.2f}"
        )
        gap = sorted((plot.y.at(row["confidence"]), top))
        plot.rule(f"M{(left + right) / 2:.1f} {gap[0]:.1f}V{gap[1]:.1f}", "gap")
    plot.mark(f"M{plot.x.at(0):.1f} {plot.y.at(0):.1f}L{plot.x.at(1):.1f} {plot.y.at(1):.1f}", "diagonal")
    ece = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in bins) / samples
    lean = sum(row["count"] * (row["confidence"] - row["accuracy"]) for row in bins) / samples
    how = "as sure as it is right" if abs(lean) < 0.005 else "surer than right" if lean > 0 else "less sure than right"
    sure = max(bins, key=lambda row: row["count"])
    caption = (
        f"On average {how}: confidence and accuracy differ by {percent(ece)} (ECE). Bars on the diagonal would be "
        f"right; the strongest one holds {percent(sure['count'] / samples, 0)} of the samples."
    )
    title = f"Reliability: {name}"
    return Figure(title, caption, plot.svg(f"{title}. {caption}"), plot.marks)


def _corruptions(systems: Sequence[System]) -> Figure | None:
    """Accuracy under each kind, the mean over severities, of every predictor."""
    worn = [(name, system["corruption"]["kinds"]) for _, name, system in systems if system.get("corruption")]
    if not worn:
        return None
    kinds = [kind for kind in worn[0][1] if all(_mean(found.get(kind, ())) is not None for _, found in worn)]
    if not kinds:
        return None
    values = [[_mean(found[kind]) for _, found in worn] for kind in kinds]
    hardest = min(kinds, key=lambda kind: min(v for v in values[kinds.index(kind)] if v is not None))
    means = {name: _mean([row for kind in kinds for row in found[kind]]) or 0.0 for name, found in worn}
    best = max(means, key=means.__getitem__)
    caption = (
        f"Accuracy in percent under each corruption, mean over severities; stronger is better. "
        f"{hardest.replace('_', ' ').capitalize()} hurts most; {best} holds up best, at {percent(means[best])}."
    )
    names = [kind.replace("_", " ") for kind in kinds]
    return heat("Corrupted inputs", caption, names, [name for name, _ in worn], values, "{:.1f}", 100)


def _severities(cell: Cell, name: str, system: Record) -> Figure | None:
    kinds = (system.get("corruption") or {}).get("kinds")
    if not kinds:
        return None
    values = [[row.get("accuracy") for row in found] for found in kinds.values()]
    title = f"Corruptions by severity: {name}"
    caption = "Accuracy in percent, from the mildest severity (left) to the hardest; stronger is better."
    columns = [str(1 + at) for at in range(max(map(len, values)))]
    return heat(title, caption, [kind.replace("_", " ") for kind in kinds], columns, values, "{:.1f}", 100)


def _evaluated(systems: Sequence[System]) -> Table | None:
    """What `regrow evaluate` found on the clean split."""
    judged = [(name, system) for _, name, system in systems if "brier" in system]
    if not judged:
        return None
    header = ["of", "test %", "NLL", "Brier", "ECE", "adaptive ECE", "AURC", "T", "ECE at T"]
    rows = [
        [
            name,
            shown(s.get("accuracy"), "{:.2f}", 100),
            *(shown(s.get(key), "{:.4f}") for key in ("nll", "brier", "ece", "adaptive_ece", "aurc")),
            shown(s.get("temperature"), "{:.2f}"),
            shown((s.get("scaled") or {}).get("ece"), "{:.4f}"),
        ]
        for name, s in judged
    ]
    caption = "Lower is better but for accuracy. T: the temperature of least NLL on validation; NLL in nats."
    return Table("Evaluation", caption, header, rows)


def _outside(systems: Sequence[System]) -> Table | None:
    """AUROC of telling other data apart."""
    judged = [(name, system["ood"]) for _, name, system in systems if system.get("ood")]
    if not judged:
        return None
    pairs = list(dict.fromkeys((other, by) for _, ood in judged for other in ood for by in ood[other]))
    rows = [
        [name, *(shown((ood.get(other, {}).get(by) or {}).get("auroc"), "{:.3f}") for other, by in pairs)]
        for name, ood in judged
    ]
    header = ["AUROC", *(f"{other}, {by.replace('_', ' ')}" for other, by in pairs)]
    return Table(
        "Other data", "How well each score tells other data from the test split: 1 always, .5 never.", header, rows
    )


def _mean(rows: Sequence[Record]) -> float | None:
    known = [row["accuracy"] for row in rows if row.get("accuracy") is not None]
    return sum(known) / len(known) if known else None


def evaluated(run: Run, key: str) -> bool:
    """Whether some predictor of the run has that entry."""
    return any(key in system for system in (run.judged.get("systems") or {}).values())
