"""Classes that modules have for a while: the same modules to all others, and plain ones where copied or pickled."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)
_PLAIN: dict[type[nn.Module], type[nn.Module]] = {}


def stand_in(kind: type[Kind]) -> type[Kind]:
    """A class that stands for its base: `module.__class__` is set to it, and back to `plain` of it."""
    _PLAIN[kind] = kind.__bases__[0]
    kind.__reduce_ex__ = _reduced  # type: ignore[method-assign, assignment]
    return kind


def plain(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that a stand-in stands for; any other is itself."""
    return _PLAIN.get(kind, kind)


def empty(kind: type[Kind]) -> Kind:
    """An empty module of torch's own class, to be filled by what a copy or a pickle holds."""
    return kind.__new__(kind)


def _reduced(self: nn.Module, protocol: Any) -> Any:
    return empty, (plain(type(self)),), self.__dict__
