"""How a run is watched: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable

    from regrow.train.loop import Progress as Step
    from regrow.train.record import Record

LINES = 6  # of a run, where there is no terminal
REFRESH = 0.1  # seconds


@contextmanager
def watched(title: str, console: Console) -> Iterator[Callable[[Step], None]]:
    """What `fit` tells its progress to."""
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as bar:
        yield _Bar(title, bar)


class _Bar:
    def __init__(self, title: str, bar: Progress) -> None:
        self.bar, self.task = bar, bar.add_task(title, total=None, words="")
        self.shown, self.words = 0.0, ""

    def __call__(self, step: Step) -> None:
        if step.row:
            self.words = words(step.row)
        last = step.step == step.total_steps
        if last or monotonic() - self.shown > REFRESH:  # a step may take a millisecond, drawing takes longer
            self.shown = monotonic()
            told = self.words or f"loss {step.loss:.3f}"
            where = f"{step.epoch}/{step.epochs} {told}"
            self.bar.update(self.task, total=step.total_steps, completed=step.step, words=where)


class _Lines:
    def __init__(self, title: str, console: Console) -> None:
        self.title, self.console = title, console

    def __call__(self, step: Step) -> None:
        often = max(1, step.epochs // LINES)
        if step.row and (step.epoch % often == 0 or step.epoch == step.epochs):
            line = f"{self.title}: epoch {step.epoch}/{step.epochs} {words(step.row)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def words(row: Record) -> str:
    """A metrics row in a few words."""
    accuracy = row["val_accuracy"]
    validation = "" if accuracy is None else f" val {100 * accuracy:.1f} %"
    explored = "" if row["density"] == 1 else f" R_s {row['exploration_rate']:.2f}"
    return f"loss {row['loss']:.3g}{validation}{explored}"
