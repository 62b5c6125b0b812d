"""Trackers besides `metrics.jsonl`, which is always written: one thin file each, imported when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from regrow.core.errors import RegrowError, choose
from regrow.train.paths import RunFolder
from regrow.train.record import Record, read_json

if TYPE_CHECKING:
    from regrow.train.loop import Progress

SINKS = {"mlflow": "Mlflow", "tensorboard": "TensorBoard", "trackio": "Trackio", "wandb": "Wandb"}
"""Its file here and its class; the file is named after the library."""


class Sink(Protocol):
    """Made with a run's folder and its settings, when the run begins or goes on."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` optimizer steps; after a resumption, steps that were written before may come again."""
        ...

    def close(self) -> None: ...


@contextmanager
def logged(
    names: Sequence[str], folder: RunFolder, settings: Mapping[str, Any]
) -> Iterator[Callable[[Progress], None]]:
    """What `fit` tells its progress to, so that the rows go to these trackers, and the test numbers at the end.

    Raises:
        RegrowError: an unknown tracker, or its library is missing.
    """
    sinks = [_opened(name, folder, settings) for name in names]
    with ExitStack() as stack:
        for sink in sinks:
            stack.callback(sink.close)

        def tell(progress: Progress) -> None:
            for sink in sinks if progress.row else ():
                sink.write(progress.step, _numbers(progress.row or {}))

        yield tell
        if sinks and folder.finished:
            result = read_json(folder.result)
            found = {key: value for key, value in result.items() if key.startswith("test_")}
            for sink in sinks:
                sink.write(result["steps"], _numbers(found))


def title(folder: RunFolder) -> str:
    """What the run is called in a tracker: `<recipe>-<hash8>-seed_<k>`."""
    return f"{folder.path.resolve().parent.name}-{folder.path.name}"


def _opened(name: str, folder: RunFolder, settings: Mapping[str, Any]) -> Sink:
    kind = choose(SINKS, name, "tracker")
    try:
        sink: Sink = getattr(import_module(f"regrow.train.sinks.{name}"), kind)(folder, settings)
    except ImportError as error:
        raise RegrowError(f"--log {name} needs {name}: pip install {name}") from error
    return sink


def _numbers(row: Record) -> dict[str, float]:
    """The finite numbers of a row."""
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float) and isfinite(value)}
