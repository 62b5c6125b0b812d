"""A run is a folder, and this is the one place that knows its file names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

RUNS = Path("runs")


def is_ticket(path: Path) -> bool:
    """Does it name a ticket, and no run?"""
    return path.suffix == ".safetensors"


@dataclass(frozen=True)
class RunFolder:
    """`runs/<recipe>-<hash8>/seed_<k>/`. Nothing is created until something is written."""

    path: Path

    @classmethod
    def of(cls, recipe: str, seed: int, root: Path = RUNS) -> RunFolder:
        """The folder of one seed of a recipe called `<recipe>-<hash8>`."""
        return cls(root / recipe / f"seed_{seed}")

    @classmethod
    def around(cls, path: Path) -> RunFolder:
        """The run that `path` is the folder of, or whose ticket, in its folder `tickets`, it is."""
        return cls(path.resolve().parent.parent if is_ticket(path) else path)

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        """Where and with what the run began."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON row per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The newest state, of one step."""
        return self.path / "checkpoint.pt"

    @property
    def result(self) -> Path:
        """The final record; its presence means finished."""
        return self.path / "result.json"

    @property
    def judged(self) -> Path:
        """What its end found beyond the result: reliability, how alike its tickets are, the loss between them."""
        return self.path / "judged.json"

    @property
    def report(self) -> Path:
        """The page that shows it."""
        return self.path / "report.html"

    @property
    def decision(self) -> Path:
        """What `backend: auto` has decided, and from which seconds."""
        return self.path / "decision.json"

    def topology(self, step: int) -> Path:
        """The packed topology after `step` optimizer steps."""
        return self.path / "topology" / f"{step}.pt"

    def ticket(self, number: int) -> Path:
        """The run's ticket of that number, from 0."""
        return self.path / "tickets" / f"{number}.safetensors"

    @property
    def superposed(self) -> Path:
        """The average of its tickets."""
        return self.path / "tickets" / "superposed.safetensors"

    def tickets(self) -> list[Path]:
        """The files of its tickets that there are, the numbered ones first."""
        found = (self.path / "tickets").glob("*.safetensors")
        return sorted(found, key=lambda file: (not file.stem.isdecimal(), len(file.stem), file.stem))

    @property
    def evaluation(self) -> Path:
        """What `regrow evaluate` found."""
        return self.path / "evaluation.json"

    @property
    def exported(self) -> Path:
        """The folder of what `regrow export` writes."""
        return self.path / "export"

    @property
    def finished(self) -> bool:
        """Whether the run has its result."""
        return self.result.exists()


@dataclass(frozen=True)
class Together:
    """Runs, or tickets in the folders of theirs, that were judged as one: kept in the folder that holds them all."""

    paths: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Of a recipe's seeds: `runs/<recipe>-<hash8>`."""
        return Path(os.path.commonpath([RunFolder.around(path).path.parent for path in self._whole]))

    @property
    def names(self) -> list[str]:
        """Of each, from the folder on."""
        return [path.relative_to(self.folder).as_posix() for path in self._whole]

    @property
    def evaluation(self) -> Path:
        """What `regrow evaluate` found of them, named by who they are: other company has a file of its own."""
        return self.folder / f"evaluation-{sha256(' '.join(sorted(self.names)).encode()).hexdigest()[:8]}.json"

    @property
    def _whole(self) -> Sequence[Path]:
        return [path.resolve() for path in self.paths]


@dataclass(frozen=True)
class SuiteFolder:
    """`runs/suites/<name>-<hash8>/`: what a suite knows of its runs, which are in their own folders."""

    path: Path

    @classmethod
    def of(cls, suite: str, root: Path = RUNS) -> SuiteFolder:
        """The folder of a suite called `<name>-<hash8>`."""
        return cls(root / "suites" / suite)

    @property
    def suite(self) -> Path:
        """Its runs, their values and states."""
        return self.path / "suite.json"

    def search(self, name: str) -> Path:
        """The journal of a search."""
        return self.path / f"search-{name}.log"

    @property
    def jobs(self) -> Path:
        """What a cluster's scheduler says of them."""
        return self.path / "jobs"
