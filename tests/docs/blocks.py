"""The Python blocks of the README and the docs, page by page.

A block whose line before is `<!-- skip: REASON -->` is not run, and says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"(?:^<!-- skip: (?P<reason>.+?) -->\n)?^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what it says, and why it is not run, if it is not."""

    page: str
    line: int
    code: str
    skipped: str | None = None


def pages() -> list[str]:
    """Every page that is written by hand, relative to the clone."""
    return [
        "README.md",
        "CONTRIBUTING.md",
        *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*.md"))),
    ]


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text[: found.start("code")].count("\n") + 1
        code = re.sub(rf"^{found['indent']}", "", found["code"], flags=re.M)
        yield Block(page, line, code, found["reason"])
