"""Lightning Fabric: a second of imports, three with torchmetrics, of which it wants the version only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Nobody can import it for a while, unless somebody has."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as Python's import system is told that there is none
    try:
        yield
    finally:
        del sys.modules[module]


with _without("torchmetrics"):
    from lightning_fabric import Fabric

__all__ = ["Fabric"]
