"""The one check every image model makes of the input it is built for."""

from __future__ import annotations

from regrow.core.errors import RegrowError


def image(model: str, shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """`shape` as (channels, height, width), each side at least `least`.

    Raises:
        RegrowError: it is not an image, or too small.
    """
    if len(shape) != 3 or min(shape[1:]) < least:
        wanted = f"(channels, height, width) of at least {least}x{least}"
        raise RegrowError(f"model {model!r} takes images {wanted}, not {shape}; `mlp` takes any shape")
    return shape[0], shape[1], shape[2]
