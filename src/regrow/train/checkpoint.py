"""One file that holds a whole run at one step: written at once, read only if every byte is as written (law 5)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train import atomic

FORMAT = 2


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings and containers of them) to `path`, with its digest.

    Raises:
        RegrowError: something in `content` could not be read back with `weights_only=True`; its place is named.
    """
    buffer = io.BytesIO()
    torch.save({"regrow_checkpoint": FORMAT, "digest": digest(content), "content": content}, buffer)
    atomic.write(path, buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, on the CPU, running no code from the file.

    Raises:
        RegrowError: missing, truncated, altered, or not a checkpoint of regrow.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load answers a damaged file with half a dozen kinds of exception
        reason = str(error).strip().split("\n")[0]
        raise _unusable(path, f"cannot be read ({type(error).__name__}: {reason[:160]})") from error
    if not isinstance(stored, dict) or "regrow_checkpoint" not in stored:
        raise _unusable(path, "is not a checkpoint of regrow")
    if stored["regrow_checkpoint"] != FORMAT:
        raise _unusable(path, f"has format {stored['regrow_checkpoint']!r}, this version of regrow reads {FORMAT}")
    if digest(stored.get("content")) != stored.get("digest"):
        raise _unusable(path, "does not hold what was written: its digest differs")
    content: dict[str, Any] = stored["content"]
    return content


def digest(value: object) -> str:
    """SHA-256 over every tensor (dtype, shape, bits), number, string and key in `value`.

    Raises:
        RegrowError: `value` holds something else; its place is named.
    """
    hasher = sha256()
    _absorb(hasher, value, "content")
    return hasher.hexdigest()


def _absorb(hasher: Any, value: object, place: str) -> None:
    if isinstance(value, Tensor):
        bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hasher.update(f"{value.dtype}{tuple(value.shape)}".encode())
        hasher.update(bits.numpy())
    elif isinstance(value, Mapping):
        hasher.update(f"mapping {len(value)}".encode())
        for key, entry in value.items():
            _absorb(hasher, key, f"a key of {place}")
            _absorb(hasher, entry, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        hasher.update(f"sequence {len(value)}".encode())
        for at, entry in enumerate(value):
            _absorb(hasher, entry, f"{place}[{at}]")
    elif value is None or type(value) in (bool, int, float, str):
        text = f"{type(value).__name__} {value!r}".encode()
        hasher.update(f"{len(text)} ".encode() + text)
    else:
        raise RegrowError(
            f"a checkpoint cannot hold {place}, a {type(value).__module__}.{type(value).__qualname__}: it must load "
            "without running code. Turn it into tensors, numbers, strings, or lists and dicts of them."
        )


def _unusable(path: Path, reason: str) -> RegrowError:
    return RegrowError(
        f"checkpoint {path} {reason}. regrow writes checkpoints at once, so a kill does not cause this: the disk, a "
        "copy or another program did. Put a good copy back, or delete the file and run again to start from step 0."
    )
