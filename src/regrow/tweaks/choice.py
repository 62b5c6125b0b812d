"""Which modules a tweak acts on: by type, then by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from regrow.core.errors import RegrowError, nearest

Module = TypeVar("Module", bound=nn.Module)


def chosen(
    tweak: str,
    wanted: str,
    model: nn.Module,
    found: Mapping[str, Module],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Module]:
    """Of the modules found, those whose name matches `include` (all if it is empty) and not `exclude`.

    Args:
        wanted: what was looked for, in words.

    Raises:
        RegrowError: nothing is left, or a pattern matches nothing.
    """
    for pattern in (*include, *exclude):
        if found and not any(fnmatchcase(name, pattern) for name in found):
            raise RegrowError(
                f"{tweak}: the pattern {pattern!r} matches none of its {len(found)} places"
                f"{nearest(pattern, found) or '.'} They are {', '.join(list(found)[:4])}, ..."
            )
    left = {
        name: module
        for name, module in found.items()
        if (not include or any(fnmatchcase(name, pattern) for pattern in include))
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    }
    if not left:
        kinds = Counter(type(module).__name__ for module in model.modules() if not [*module.children()])
        some = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
        excluded = f" that is not excluded ({len(found)} are)" if found else ""
        raise RegrowError(
            f"tweak {tweak!r} finds nothing to act on: it needs {wanted}{excluded}. "
            f"{type(model).__name__} is made of {some}; drop the tweak, or build the model from such modules"
        )
    return left
