"""trackio: project `regrow`, a run per run, kept on this machine; `trackio show` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.train.paths import RunFolder
from regrow.train.sinks import title


class Trackio:
    """A resumed run goes on in the same one."""

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        import trackio  # type: ignore[import-not-found, unused-ignore]

        self._run: Any = trackio.init(project="regrow", name=title(folder), resume="allow", config=dict(settings))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
