"""The directive `measured`: a benchmark's newest dated results as a table, read from benchmarks/results.

```{measured} sparse_step_small
```
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from regrow.lab.paired import ratio

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def names() -> list[str]:
    """Of every benchmark that has results."""
    return sorted({re.sub(r"_\d+threads_.*", "", path.stem) for path in RESULTS.glob("*threads_*.json")})


def newest(name: str) -> list[Path]:
    """The last date's files of a benchmark, one for each number of threads."""
    found: dict[str, Path] = {}
    for path in sorted(RESULTS.glob(f"{name}_*threads_*.json")):
        if not re.fullmatch(rf"{name}(_avx\w+)?_\d+threads_[\d-]+", path.stem):
            continue  # a longer name
        found[path.stem.rsplit("_", 1)[0]] = path
    return list(found.values())


def is_paired(cell: Mapping[str, Any]) -> bool:
    """Was it timed in turn against something else?"""
    return isinstance(cell.get("ours"), list)


def row(cell: Mapping[str, Any], threads: int) -> tuple[str, ...]:
    """What, threads, ours, the other's, how many times as fast with its 95 % interval, and whether the goal is kept."""
    found = ratio(cell["ours"], cell["theirs"])
    ours, theirs = (f"{statistics.median(cell[which]) * 1e3:.3g} ms" for which in ("ours", "theirs"))
    verdict = "yes" if found.high <= cell["limit"] else "by the median" if found.median <= cell["limit"] else "no"
    times = f"{1 / found.median:.3g}x [{1 / found.high:.3g}, {1 / found.low:.3g}]"
    return (cell["name"], str(threads), ours, theirs, times, f"{1 / cell['limit']:.3g}x", verdict)


HEAD = ("what", "threads", "regrow", "the other", "times as fast [95 %]", "goal", "kept")


class Measured(SphinxDirective):
    """A table of what was timed in pairs; what was measured otherwise in its own lines; then where and when."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "everything-else":
            asked = set(re.findall(r"{measured} ([\w-]+)", Path(self.env.doc2path(self.env.docname)).read_text()))
            return [
                node for name in names() if name not in asked for node in (nodes.rubric(text=name), *self._of(name))
            ]
        return list(self._of(self.arguments[0]))

    def _of(self, name: str) -> Iterator[nodes.Node]:
        paths = newest(name)
        if not paths:
            raise self.error(f"no results of {name!r} in {RESULTS}")
        for path in paths:
            self.env.note_dependency(str(path))
        yield from self._shown(paths)
        yield nodes.paragraph(text=_where(paths))

    def _shown(self, paths: Sequence[Path]) -> Iterator[nodes.Node]:
        rows, lines = [], []
        for path in paths:
            content = json.loads(path.read_text())
            threads = content["where"]["threads"]
            rows += [row(cell, threads) for cell in content["cells"] if is_paired(cell)]
            written = path.with_suffix(".md").read_text().split("```")[1].strip().splitlines()
            for cell, line in zip(content["cells"], written, strict=True):
                if not is_paired(cell):
                    lines.append(f"{threads} threads: {line}")
        if rows:
            yield table(HEAD, rows)
        if lines:
            yield nodes.literal_block("\n".join(lines), "\n".join(lines), language="none")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> nodes.table:
    """Of plain text."""
    made = nodes.table()
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    made += group
    return made


def _row(texts: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=text)) for text in texts))


def _where(paths: Sequence[Path]) -> str:
    """Machine, versions, date and files."""
    where = [json.loads(path.read_text())["where"] for path in paths]
    busy = "; a busy machine" if any(each["busy"] for each in where) else ""
    first, names = where[0], ", ".join(path.name for path in paths)
    return (
        f"{first['cpu']}, {first['instructions']}, torch {first['versions']['torch']}, {first['date']}{busy} ({names})."
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}
