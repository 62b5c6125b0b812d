"""Where data lives, and how an official file gets there: downloaded, checked, then renamed into place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

from regrow.core.errors import RegrowError


def default_root() -> Path:
    """$REGROW_DATA, else `regrow` in the user's cache folder."""
    if given := os.environ.get("REGROW_DATA"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "regrow"


def download(url: str, md5: str, target: Path) -> None:
    """Fetch `url` to `target`, which appears whole and with the published MD5, or not at all.

    Raises:
        RegrowError: the server cannot be reached, the folder cannot be written, or the file is not the published one.
    """
    from rich.console import Console
    from rich.progress import wrap_file

    try:
        with urlopen(url, timeout=30) as response, atomic(target) as part:
            size = int(response.headers.get("Content-Length") or 0)
            digest = hashlib.md5(usedforsecurity=False)
            with wrap_file(response, total=size, description=target.name, console=Console(stderr=True)) as reader:
                while chunk := reader.read(1 << 20):
                    digest.update(chunk)
                    part.write(chunk)
            if digest.hexdigest() != md5:
                raise RegrowError(f"{url} is not the published file: MD5 {digest.hexdigest()}, expected {md5}")
    except (OSError, HTTPException) as error:
        raise RegrowError(
            f"{target} is missing and cannot be fetched from {url} ({error}). Put the official files in "
            f"{target.parent} (its root is set by $REGROW_DATA), or take `data: digits`, which needs no files"
        ) from error


@contextmanager
def atomic(target: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `target` when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
