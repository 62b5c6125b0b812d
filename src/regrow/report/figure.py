"""What a page is made of: sections of figures and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from regrow.report.words import shown


@dataclass(frozen=True)
class Figure:
    """A drawing or a heat map, with what to see in it; `marks` counts the data in it."""

    title: str
    caption: str
    body: str
    marks: int
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Words in rows, with LaTeX, Markdown and CSV to copy; the first `left` columns are words, the others numbers."""

    title: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    @property
    def markdown(self) -> str:
        lines = [self.header, [":--" if i < self.left else "--:" for i in range(len(self.header))], *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)

    @property
    def csv(self) -> str:
        return "\n".join(",".join(_quoted(cell) for cell in line) for line in [self.header, *self.rows])

    @property
    def latex(self) -> str:
        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        head, *rows = [" & ".join(map(_tex, line)) + r" \\" for line in [self.header, *self.rows]]
        body = ["  " + row for row in rows]
        inner = [r"  \toprule", f"  {head}", r"  \midrule", *body, r"  \bottomrule"]
        return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *inner, r"\end{tabular}"])


@dataclass(frozen=True)
class Section:
    """A heading with figures and tables below it; the legend's entries are (look, name)."""

    key: str
    title: str
    about: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    legend: Sequence[tuple[str, str]] = ()


def heat(
    title: str, caption: str, names: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]],
    form: str = "{:.2f}", scale: float = 1.0, dark: tuple[float, float] | None = None,
) -> Figure:  # fmt: skip
    """A matrix as a table with shaded cells: numbers to read, and to hear.

    Args:
        dark: the values without shade and with the darkest; by default the least and the greatest.
    """
    known = [value for row in values for value in row if value is not None]
    pale, deep = dark or (min(known, default=0.0), max(known, default=1.0))

    def cell(value: float | None) -> str:
        share = 0.0 if value is None or deep == pale else min(max((value - pale) / (deep - pale), 0.0), 1.0)
        return f'<td style="--v:{share:.2f}">{shown(value, form, scale)}</td>'

    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(cell, row))}</tr>'
        for name, row in zip(names, values, strict=True)
    )
    table = f"<table class='heat'><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    body = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>'
    return Figure(title, caption, body, len(known), wide=len(columns) > 5)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\n') else cell


_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {c: "\\" + c for c in "&%$#_{}"}


def _tex(cell: str) -> str:
    return "".join(_TEX.get(c, c) for c in cell)
