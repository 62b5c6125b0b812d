"""The one imperative shell: a method, a schedule and a backend on an optimizer."""

from regrow.sparsifier.shell import Sparsifier
from regrow.sparsifier.sugar import sparsify

__all__ = ["Sparsifier", "sparsify"]
