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
def watched(title: str, console: Console, dense: float | None = None) -> Iterator[Callable[[Step], None]]:
    """What `fit` tells its progress to."""
    if not console.is_terminal:
        yield _Lines(title, console, dense)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as bar:
        yield _Bar(title, bar, dense)


class _Bar:
    def __init__(self, title: str, bar: Progress, dense: float | None) -> None:
        self.bar, self.task = bar, bar.add_task(title, total=None, words="")
        self.shown, self.words, self.dense = 0.0, "", dense
        self.began: tuple[int, float] | None = None  # step and time of the first word

    def __call__(self, step: Step) -> None:
        if step.row:
            self.words = words(step.row, self.dense)
        self.began = self.began or (step.step, monotonic())
        last = step.step == step.total_steps
        if last or monotonic() - self.shown > REFRESH:  # a step may take a millisecond, drawing takes longer
            self.shown = monotonic()
            told = self.words or f"loss {step.loss:.3f}"
            done, seconds = step.step - self.began[0], monotonic() - self.began[1]
            rate = f" {done / seconds:,.0f} steps/s" if done and seconds else ""
            where = f"{step.epoch}/{step.epochs} {told}{rate}"
            self.bar.update(self.task, total=step.total_steps, completed=step.step, words=where)


class _Lines:
    def __init__(self, title: str, console: Console, dense: float | None) -> None:
        self.title, self.console, self.dense = title, console, dense

    def __call__(self, step: Step) -> None:
        often = max(1, step.epochs // LINES)
        if step.row and (step.epoch % often == 0 or step.epoch == step.epochs):
            line = f"{self.title}: epoch {step.epoch}/{step.epochs} {words(step.row, self.dense)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def words(row: Record, dense: float | None = None) -> str:
    """A metrics row in a few words; `dense`: seconds per epoch of dense training, if it is known."""
    accuracy = row["val_accuracy"]
    told = [f"loss {row['loss']:.3g}", "" if accuracy is None else f"val {100 * accuracy:.1f} %"]
    if row["density"] != 1:
        told.append(f"R_s {row['exploration_rate']:.2f} density {row['density']:.3g}")
        if dense and row.get("seconds"):
            saved = dense * row["epoch"] - row["seconds"]
            told.append(f"{abs(saved):.3g} s {'saved' if saved > 0 else 'more than dense'}")
    return " ".join(filter(None, told))
