"""regrow suite: many runs from one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from regrow.cli.options import DataRoot, Runs
from regrow.cli.suite_progress import told, watched
from regrow.cli.tables import print_table
from regrow.cli.verb import say

if TYPE_CHECKING:
    from regrow.lab.suite import Course
    from regrow.recipe.suite import Entry
    from regrow.train.paths import RunFolder


def suite(
    source: Annotated[str, typer.Argument(metavar="SUITE", help="A .yaml file, or a shipped one: itop/suite-central.")],
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Runs at a time.")] = 1,
    engine: Annotated[str, typer.Option("--engine", metavar="local|ray|slurm", help="Who computes.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run; check every recipe.")] = False,
    ledger: Annotated[bool, typer.Option("--ledger", help="Write the results into results/, dated.")] = False,
    runs: Runs = Path("runs"),
    data_root: DataRoot = None,
) -> None:
    """Train every run of a suite that is not there yet. Again, it goes on; a run that fails stops nothing."""
    from regrow.core.errors import choose
    from regrow.lab import crew

    if engine == "local" and not dry_run:
        crew.ready(crew.share(workers))  # what training needs is loaded while the suite is read
    from regrow.lab import ledger as ledgers
    from regrow.lab.engines import ENGINES
    from regrow.lab.search import best
    from regrow.lab.suite import Course, Workplace, run
    from regrow.recipe.suite import load

    make = choose(ENGINES, engine, "engine")
    course = Course.of(load(source), runs)
    if dry_run:
        _foretell(course)
        return
    place = Workplace(make(workers, course.folder.jobs), workers, crew.share(workers), data_root)
    with watched(course, Console(stderr=True)) as tell:
        run(course, place, tell)
    _compare(course)
    for search in course.expanded.searches:
        if found := best(course, search):
            typer.echo(f"{search.name}: best {search.spec.objective} {found[1]:.4f} at {told(found[0])}")
    if ledger:
        typer.echo(ledgers.write(course))
    typer.echo(course.folder.suite)
    if course.failures:
        say(f"{len(course.failures)} failed:", style="red")
        for why, folders in _by_reason(course.failures).items():
            say(f"{', '.join(folders)}: {why}", style="red")
        raise typer.Exit(1)


def _by_reason(failures: dict[str, str]) -> dict[str, list[str]]:
    """Where data is missing, a hundred runs fail for one reason: it is said once."""
    reasons: dict[str, list[str]] = {}
    for folder, why in failures.items():
        reasons.setdefault(why, []).append(folder)
    return reasons


def _foretell(course: Course) -> None:
    rows = []
    for name, entries in _cells(course.entries).items():
        done = sum(course.run_of(entry).finished for entry in entries)
        recipe = entries[0].recipe
        row = {"run": name, "folder": recipe.folder, "epochs": str(recipe.total_epochs)}
        rows.append(row | {"seeds": str(len(entries)), "finished": str(done)})
    if rows:
        print_table(rows, left=["run", "folder"])
    for search in course.expanded.searches:
        over = ", ".join(search.spec.over)
        typer.echo(f"{search.name}: {search.spec.trials} trials x {len(search.seeds)} seeds over {over}")
    runs, missing = {entry.folder for entry in course.entries}, course.missing(course.entries)
    epochs = sum(entry.recipe.total_epochs for entry in missing)
    typer.echo(f"{len(runs)} runs, {len(missing)} of them to do: {epochs} epochs.")
    for name, why in course.expanded.suite.absent.items():
        typer.echo(f"absent: {name}: {why}")


def _cells(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    cells: dict[str, list[Entry]] = {}
    for entry in entries:
        cells.setdefault(told(entry.cell) or entry.recipe.name, []).append(entry)
    return cells


def _compare(course: Course) -> None:
    """The runs side by side, called by what tells them apart."""
    from regrow.report.compare import cells, compare
    from regrow.report.read import gather

    names: dict[str, str] = {}
    folders: dict[str, dict[str, RunFolder]] = {}
    for name, entries in _cells(course.entries).items():
        for entry in entries:
            names.setdefault(entry.recipe.folder, name)
            folders.setdefault(entry.recipe.folder, {})[entry.folder] = course.run_of(entry)
    there = [run for runs in folders.values() for run in runs.values() if run.recipe.exists()]
    rows = [cells(row) | ({} if row.tickets else {"runs": names[row.runs]}) for row in compare(gather(there).runs)]
    if rows:
        print_table(rows, left=["runs"])
