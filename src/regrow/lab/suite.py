"""A suite under way: its missing runs go to an engine, and `suite.json` says how each of them stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from regrow.core.errors import RegrowError
from regrow.lab.engines import Engine, Task
from regrow.lab.search import look
from regrow.recipe.folders import wanted
from regrow.recipe.suite import Entry, Expanded
from regrow.train import record
from regrow.train.atomic import claim
from regrow.train.paths import RunFolder, SuiteFolder

Tell = Callable[[Entry, str | None], None]
"""Told each run as it ends, and what went wrong if anything did."""

FINISHED, FAILED, PENDING = "finished", "failed", "pending"


@dataclass(frozen=True)
class Workplace:
    """Who computes: an engine for `workers` runs at a time, the threads of each, and where the data is."""

    engine: Engine
    workers: int
    threads: int
    data_root: Path | None = None


@dataclass
class Course:
    """How far a suite has got. Whether a run is finished is read from its folder, so nothing is lost by a kill.

    Args:
        runs: the folder of all runs.
        entries: of the suite, and of the trials of its searches as they come; several may share a run.
        failures: run folder -> what went wrong, in this call.
    """

    expanded: Expanded
    runs: Path
    entries: list[Entry]
    failures: dict[str, str] = field(default_factory=dict)
    ended: list[Entry] = field(default_factory=list)  # in this call
    started: float = field(default_factory=monotonic)

    @classmethod
    def of(cls, expanded: Expanded, runs: Path) -> Course:
        return cls(expanded, runs, list(expanded.entries))

    @property
    def folder(self) -> SuiteFolder:
        return SuiteFolder.of(self.expanded.folder, self.runs)

    def run_of(self, entry: Entry) -> RunFolder:
        return RunFolder(self.runs / entry.folder)

    def state(self, entry: Entry) -> str:
        """Whether it is finished, has failed in this call, or is still to be done."""
        if entry.folder in self.failures:
            return FAILED
        return FINISHED if self.run_of(entry).finished else PENDING

    def missing(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that are not finished, each run once."""
        return [
            entry for entry in {entry.folder: entry for entry in entries}.values() if not self.run_of(entry).finished
        ]

    @property
    def seconds(self) -> float:
        """Since the call began."""
        return monotonic() - self.started

    @property
    def remaining(self) -> float | None:
        """Seconds to the end, if epochs go on as fast as those of the runs that have ended; None before the first."""
        done = sum(entry.recipe.total_epochs for entry in self.ended)
        left = sum(entry.recipe.total_epochs for entry in self.missing(self.entries) if self.state(entry) == PENDING)
        return self.seconds * left / done if done else None

    def add(self, entries: Iterable[Entry], failed: bool = False) -> None:
        """More runs, of a search; those that failed in an earlier call are not tried again."""
        known = [(entry.folder, entry.values) for entry in self.entries]
        self.entries += [entry for entry in entries if (entry.folder, entry.values) not in known]
        if failed:
            self.failures |= {entry.folder: "failed in an earlier call" for entry in self.missing(entries)}

    def train(self, entries: Iterable[Entry], place: Workplace, tell: Tell) -> None:
        """Bring those runs to their end."""
        named: dict[Path, Entry] = {}
        tasks: list[Task] = []
        for entry in self.missing(entries):
            recipe, folder = wanted(entry.recipe, entry.seed, self.runs.resolve())
            named[folder.path] = entry
            tasks.append(Task(recipe, folder, place.data_root, place.threads))
        for task, failure in place.engine.run(tasks):
            entry = named[task.folder.path]
            self.ended.append(entry)
            if failure is not None:
                self.failures[entry.folder] = failure
            self.save()
            tell(entry, failure)

    def save(self) -> None:
        """Write `suite.json`, whole or not at all."""
        runs = [
            {"folder": entry.folder, "values": entry.values, "state": self.state(entry)}
            | ({"error": self.failures[entry.folder]} if entry.folder in self.failures else {})
            for entry in self.entries
        ]
        expanded = self.expanded
        content = {"name": expanded.suite.name, "hash": expanded.hash8, "source": expanded.source, "runs": runs}
        record.write_json(self.folder.suite, content)


def run(course: Course, place: Workplace, tell: Tell = lambda entry, failure: None) -> None:
    """Bring every run of the suite to its end, then every search; a failed run is named and stops nothing.

    Raises:
        RegrowError: another process is at this suite, or a folder holds another recipe's run.
    """
    if "RANK" in os.environ:
        raise RegrowError("a suite starts its own processes, torchrun one run in several: use one of them")
    with claim(course.folder.path):
        course.save()
        course.train(course.entries, place, tell)
        for search in course.expanded.searches:
            look(course, search, place, tell)
        course.save()
