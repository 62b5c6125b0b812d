"""regrow evaluate: what a run's predictions are worth, and what its tickets are worth together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.options import DataRoot
from regrow.cli.tables import print_table
from regrow.cli.verb import say
from regrow.core.errors import choose
from regrow.train.paths import RunFolder, Together, is_ticket

if TYPE_CHECKING:
    from regrow.lab.evaluation import Subject

SPLITS = {"test": "test", "val": "val"}


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN|TICKET...", help="Folders of runs, or files of tickets.")],
    ood: Annotated[
        list[str] | None,
        typer.Option("--ood", metavar="NAME", help="Another data set to tell apart, `noise`, or `usual`. Repeatable."),
    ] = None,
    corruptions: Annotated[bool, typer.Option("--corruptions", help="CIFAR-C's kinds, five severities.")] = False,
    adversarial: Annotated[bool, typer.Option("--adversarial", help="FGSM and PGD of radius 8/255.")] = False,
    analyses: Annotated[
        bool, typer.Option("--analyses", help="Dead units, gradient norms, Hessian, loss landscape.")
    ] = False,
    split: Annotated[str, typer.Option("--split", metavar="test|val")] = "test",
    passes: Annotated[int, typer.Option(min=0, metavar="N", help="MC-dropout: N passes with dropout as members.")] = 0,
    together: Annotated[bool, typer.Option("--together", help="All runs as one ensemble.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers for programs.")] = False,
    data_root: DataRoot = None,
) -> None:
    """Accuracy, NLL, Brier, ECE, diversity, and under shifts: of each ticket and of all as an ensemble.

    A run's numbers are kept in RUN/evaluation.json, those of an ensemble of several runs in the folder that holds them
    all, as evaluation-<hash8>.json. Several tickets make one ensemble.
    """
    from regrow.lab.evaluation import Asked
    from regrow.lab.evaluation import evaluate as judge
    from regrow.train.record import write_json

    asked = Asked(
        choose(SPLITS, split, "split"),
        tuple(ood or ()),
        corruptions=corruptions,
        adversarial=adversarial,
        analyses=analyses,
    )
    records = []
    for subject, kept in subjects(runs, together, passes, data_root):
        record = judge(subject, asked, data_root, tell=lambda words: say(words, style="dim"))
        if isinstance(kept, Together):
            record["runs"] = kept.names
        records.append(record)
        if kept:
            write_json(kept.evaluation, record)
            say(f"kept in {kept.evaluation}", style="dim")
        if not as_json:
            show(record)
    if as_json:
        typer.echo(json.dumps(records, indent=2))


def subjects(
    paths: list[Path], together: bool, passes: int, data_root: Path | None
) -> list[tuple[Subject, RunFolder | Together | None]]:
    """What is to be judged, each with what keeps its numbers: none for a ticket alone."""
    from regrow.lab.evaluation import Subject
    from regrow.recipe.folders import runs_in

    tickets = [path for path in paths if is_ticket(path)]
    folders = [folder.path for path in paths if path not in tickets for folder in runs_in(path)]

    def of(path: Path) -> Subject:
        return Subject.of(path, data_root, passes)

    def joined(paths: list[Path]) -> tuple[Subject, RunFolder | Together | None]:
        return Subject.together(map(of, paths)), Together(tuple(paths)) if len(paths) > 1 else None

    if together:
        return [joined([*folders, *tickets])]
    return [*((of(path), RunFolder(path)) for path in folders), *([joined(tickets)] if tickets else [])]


def show(record: dict[str, Any]) -> None:
    """A record in tables."""
    typer.echo(f"{record['subject']}: {record['data']}, {record['samples']:,} samples of {record['split']}")
    for title, cells in (("", clean), (AUROC, told_apart), ("", shifted)):
        rows = [{"of": name} | cells(system) for name, system in record["systems"].items()]
        if len(rows[-1]) > 1:
            typer.echo(title, nl=bool(title))
            print_table([{column: row.get(column, "-") for column in rows[-1]} for row in rows], left=["of"])
    if apart := record["diversity"]:
        overlap = "" if apart["overlap"] is None else f", masks overlap by {apart['overlap']:.3f}"
        typer.echo(f"Two members disagree on {100 * apart['disagreement']:.2f} %, KL {apart['kl']:.4f}{overlap}.")
    for name, analysis in record.get("analyses", {}).items():
        show_analysis(name, analysis)
    if left_out := record.get("corruptions_left_out"):
        typer.echo(f"Corruptions left out, for want of official files or of colour: {', '.join(left_out)}.")
    if all(system["temperature"] is None for system in record["systems"].values()):
        typer.echo("No temperature: it is fitted on validation data, and none was held out.")


def show_analysis(name: str, analysis: dict[str, Any]) -> None:
    """What one network is like inside."""
    curvature, away = analysis["curvature"], analysis["landscape"]["line"][-1]
    sharp = f"{curvature['top_eigenvalue']:.4g}, trace {curvature['trace']:.4g} ± {curvature['trace_error']:.2g}"
    typer.echo(
        f"{name}, on {analysis['samples']:,} training samples: loss {analysis['loss']:.4f}, a filter's length away "
        f"{away:.4g}; top eigenvalue of the Hessian {sharp} (standard error)"
    )
    units = [{"units of": row["name"], "units": str(row["units"])} | shares(row) for row in analysis["activities"]]
    print_table(units, left=["units of"])
    print_table(
        [{"gradient of": name, "norm": f"{norm:.3g}"} for name, norm in analysis["gradients"].items()],
        left=["gradient of"],
    )


def shares(row: dict[str, Any]) -> dict[str, str]:
    """Of dead units and of answers above zero."""
    return {"dead %": _percent(row["dead"]), "active %": _percent(row["active"]), "mean": f"{row['mean']:.3g}"}


def clean(system: dict[str, Any]) -> dict[str, str]:
    """On the split itself, by column title. T: after temperature scaling, fitted on validation."""
    scaled = system.get("scaled", {})
    return {
        "%": _percent(system["accuracy"]),
        "NLL": _short(system["nll"]),
        "Brier": _short(system["brier"]),
        "ECE": _short(system["ece"]),
        "adaptive ECE": _short(system["adaptive_ece"]),
        "AURC": _short(system["aurc"]),
        "% of surest 90 %": _percent(system["accuracy_at_90"]),
        "T": _short(system["temperature"], 2),
        "NLL at T": _short(scaled.get("nll")),
        "ECE at T": _short(scaled.get("ece")),
    }


def told_apart(system: dict[str, Any]) -> dict[str, str]:
    """From each other data set, by each score."""
    found = system.get("ood", {})
    return {
        f"{other} {SHORT[by]}": _short(row["auroc"], 3) for other, scores in found.items() for by, row in scores.items()
    }


def shifted(system: dict[str, Any]) -> dict[str, str]:
    """Corrupted and attacked."""
    row: dict[str, str] = {}
    if "accuracy" in (worn := system.get("corruption", {})):
        row |= {"c%": _percent(worn["accuracy"]), "cNLL": _short(worn["nll"]), "cECE": _short(worn["ece"])}
    attacks = {name: found for name, found in system.get("adversarial", {}).items() if name != "eps"}
    return row | {f"{name.upper()} %": _percent(found["accuracy"]) for name, found in attacks.items()}


AUROC = "AUROC of other data, by max-probability (p), entropy (H) and mutual information (MI):"
SHORT = {"max_probability": "p", "entropy": "H", "mutual_information": "MI"}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _short(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
