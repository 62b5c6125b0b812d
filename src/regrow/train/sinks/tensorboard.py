"""TensorBoard: event files in the run's own folder. `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.train.paths import RunFolder


class TensorBoard:
    """Steps that a resumed run takes again replace those written before."""

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer_of, self._folder = SummaryWriter, folder.path / "tensorboard"
        self._writer: SummaryWriter | None = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            self._writer = self._writer_of(str(self._folder), purge_step=step)  # type: ignore[no-untyped-call, unused-ignore]
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)  # type: ignore[no-untyped-call, unused-ignore]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()  # type: ignore[no-untyped-call, unused-ignore]
