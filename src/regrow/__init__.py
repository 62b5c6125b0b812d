"""regrow: sparse training for PyTorch, from the first step to the last."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.core.distributions import DISTRIBUTIONS
    from regrow.core.errors import RegrowError
    from regrow.core.schedules import Every
    from regrow.core.topology import Topology
    from regrow.methods import METHODS
    from regrow.sparsifier import Sparsifier, sparsify
    from regrow.tickets import Ensemble, Ticket, load

_HOMES = {
    "DISTRIBUTIONS": "regrow.core.distributions",
    "Ensemble": "regrow.tickets",
    "Every": "regrow.core.schedules",
    "METHODS": "regrow.methods",
    "RegrowError": "regrow.core.errors",
    "Sparsifier": "regrow.sparsifier",
    "Ticket": "regrow.tickets",
    "Topology": "regrow.core.topology",
    "load": "regrow.tickets",
    "sparsify": "regrow.sparsifier",
}

__all__ = [
    "DISTRIBUTIONS",
    "METHODS",
    "Ensemble",
    "Every",
    "RegrowError",
    "Sparsifier",
    "Ticket",
    "Topology",
    "load",
    "sparsify",
]
__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import regrow` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'regrow' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
