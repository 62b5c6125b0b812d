"""A run is a folder, and this is the one place that knows its file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """`runs/<recipe>-<hash8>/seed_<k>/`. Nothing is created until something is written."""

    path: Path

    @classmethod
    def of(cls, recipe: str, seed: int, root: Path = RUNS) -> RunFolder:
        """The folder of one seed of a recipe called `<recipe>-<hash8>`."""
        return cls(root / recipe / f"seed_{seed}")

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
    def finished(self) -> bool:
        """Whether the run has its result."""
        return self.result.exists()
