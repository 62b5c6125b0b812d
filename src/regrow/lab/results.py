"""The ledger as a page: our results, and beside them, in tables of their own, what papers report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, stdev
from typing import Any

from regrow.lab.reported import READ, Reported
from regrow.train.record import Record

HEAD = """# Results

Written by `regrow results` from the files in `results/`; do not edit it. There are two kinds of tables. **Measured** is
what `regrow suite ... --ledger` found: mean ± standard deviation over seeds, the hash of the recipe, where it was
computed. **Reported** is what a paper prints, with its source; nothing of it was measured here, settings may differ:
read its rows against each other, not against ours. R_s is the exploration rate, FLOPs are shares of the dense run.
"""


def render(ledger: Sequence[Record], reported: Sequence[Reported]) -> str:
    """The whole page, in Markdown."""
    measured: dict[tuple[str, str], list[tuple[Record, Record]]] = {}
    for file in ledger:
        for row in file["results"]:
            measured.setdefault(_subject(row["data"], row["model"]), []).append((file, row))
    subjects = [*measured, *(s for table in reported if (s := (table.data, table.model)) not in measured)]
    lines = [HEAD]
    for data, model in dict.fromkeys(subjects):
        lines.append(f"## {model} on {data}\n")
        for rows in _by_file(measured.get((data, model), [])):
            lines += _measured(*rows)
        for table in reported:
            if (table.data, table.model) == (data, model):
                lines += _reported(table)
    return "\n".join(lines).rstrip() + "\n"


def _subject(data: str, model: str) -> tuple[str, str]:
    """`folder:imagenet:224` is imagenet."""
    return (data.split(":")[1] if data.startswith("folder:") else data), model


def _by_file(rows: Iterable[tuple[Record, Record]]) -> Iterator[tuple[Record, list[Record]]]:
    files: dict[str, tuple[Record, list[Record]]] = {}
    for file, row in rows:
        files.setdefault(f"{file['date']} {file['suite']} {file['hash']}", (file, []))[1].append(row)
    yield from files.values()


def _measured(file: Record, rows: list[Record]) -> Iterator[str]:
    yield f"### Measured: {file['suite']}, {file['date']}\n"
    if file["about"]:
        yield f"{file['about']}\n"
    keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
    titles = [*keys, "seeds", "test %", "tickets %", "NLL", "ECE", "density", "R_s"]
    yield from _table([*titles, "FLOPs train", "FLOPs test", "recipe"], (_cells(row, keys) for row in rows))
    used = sorted({number for row in rows for number in row["environment"]})
    yield f"Suite {file['hash']}; computed with " + "; ".join(_where(file["environments"][n]) for n in used) + ".\n"


def _cells(row: Record, keys: Sequence[str]) -> list[str]:
    shown = [_word(row["values"].get(key)) for key in keys]
    together = [found["ensemble"] for found in row["tickets"] if "ensemble" in found]
    averaged = [found["superposed"] for found in row["tickets"] if "superposed" in found]
    of_tickets = [
        f"{_mean(values, 100, 2)} {how}" for values, how in ((together, "together"), (averaged, "averaged")) if values
    ]
    return [
        *shown,
        str(len(row["seeds"])),
        _mean(row["test_accuracy"], 100, 2),
        ", ".join(of_tickets),
        _mean(row["test_nll"], 1, 3),
        _mean(row["test_ece"], 1, 3),
        _mean(row["density"][:1], 1, 3),
        _mean(row["exploration_rate"], 1, 3),
        _ratio(row["training_flops_ratio"]),
        _ratio(row["inference_flops_ratio"]),
        f"{row['recipe']}-{row['recipe_hash']}",
    ]


def _mean(values: Sequence[float | None], scale: float, digits: int) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{spread}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}x"


def _word(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _where(environment: Record) -> str:
    known = {"commit": "commit {}", "regrow": "regrow {}", "torch": "torch {}", "python": "Python {}", "device": "{}"}
    words = [form.format(environment[key]) for key, form in known.items() if environment.get(key)]
    words += [f"{environment['cpu']}, {environment['threads']} of {environment['cores']} cores"]
    return ", ".join(words)


def _reported(table: Reported) -> Iterator[str]:
    yield f"### Reported: {table.paper}\n"
    yield f"{table.source}; {READ[table.read]}. Not measured here.\n"
    yield from _table(["method", *table.columns], ([method, *cells] for method, cells in table.rows.items()))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns in which no row says anything are left out."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    kept = [at for at in range(len(titles)) if any(row[at] for row in body)]
    lines = [[titles[at] for at in kept], ["---"] * len(kept), *([row[at] for at in kept] for row in body)]
    yield "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
