"""A run that is interrupted at a step, as a user interrupts one."""

from __future__ import annotations

from collections.abc import Callable

from regrow.train.loop import Progress


class Interrupted(Exception):
    pass


def stop_at(step: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.step == step:
            raise Interrupted

    return tell
