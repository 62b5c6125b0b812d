"""Runs side by side: one row per recipe, its seeds averaged; below it what became of its tickets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from regrow.report.read import Run, by_recipe
from regrow.report.spread import Spread
from regrow.report.words import MISSING, shown
from regrow.train.record import Record


@dataclass(frozen=True)
class Row:
    """The finished runs of one recipe, means over seeds; nnz and numel count weights. NLL in nats, ECE of 15 bins.

    `tickets` is empty for the runs themselves; their ensembles and averages have rows of their own, and say so there.
    FLOPs ratios are to a dense run of the recipe's length; those of seconds per step and of bytes to the dense runs in
    this comparison of the same size, data and batch, if there are any.
    """

    runs: str
    tickets: str
    seeds: int
    unfinished: int
    accuracy: float | None = None
    accuracy_std: float | None = None
    nll: float | None = None
    ece: float | None = None
    density: float | None = None
    exploration_rate: float | None = None
    training_flops_ratio: float | None = None
    inference_flops_ratio: float | None = None
    backend: str | None = None
    seconds_per_step: float | None = None
    seconds_ratio: float | None = None
    seconds_per_epoch: float | None = None
    nnz: int | None = None
    numel: int | None = None
    bytes: float | None = None
    bytes_ratio: float | None = None


def compare(runs: Iterable[Run]) -> list[Row]:
    """A row per recipe, in the order given, and one for the ensemble and for the average of its runs' tickets."""
    rows: list[Row] = []
    results: list[list[Record]] = []
    for same in by_recipe(runs):
        results.append([run.result for run in same if run.result])
        rows.append(_row(same[0].name, len(same), results[-1]))
    tasks = [_task(found[0]) if found else None for found in results]
    dense = {task: row for task, row in zip(tasks, rows, strict=True) if row.density == 1 and row.backend is None}
    table: list[Row] = []
    for task, row, found in zip(tasks, rows, results, strict=True):
        table += [_against(row, dense.get(task)), *_of_tickets(row, found)]
    return table


def _task(result: Record) -> tuple[Any, ...]:
    """What two runs have in common whose seconds and bytes may be compared."""
    unheld = result["numel"] - result["nnz"] if result.get("backend") == "sparse" else 0
    return result["data"], result["batch_size"], result["parameters"] + unheld


def _against(row: Row, dense: Row | None) -> Row:
    if dense is None:
        return row
    return replace(
        row,
        seconds_ratio=_share(row.seconds_per_step, dense.seconds_per_step),
        bytes_ratio=_share(row.bytes, dense.bytes),
    )


def _share(ours: float | None, dense: float | None) -> float | None:
    return ours / dense if ours and dense else None


def _row(name: str, runs: int, results: list[Record]) -> Row:
    unfinished = runs - len(results)
    if not results:
        return Row(name, "", 0, unfinished)
    flops = results[0]["flops"] or {}
    return Row(
        runs=name,
        tickets="",
        seeds=len(results),
        unfinished=unfinished,
        **_worth(results),
        density=_mean(results, "density"),
        exploration_rate=_mean(results, "exploration_rate"),
        training_flops_ratio=flops.get("training_ratio"),
        inference_flops_ratio=flops.get("inference_ratio"),
        backend=results[0].get("backend"),
        seconds_per_step=_mean(results, "seconds_per_step"),
        seconds_per_epoch=_mean(results, "seconds_per_epoch"),
        nnz=results[0]["nnz"],
        numel=results[0]["numel"],
        bytes=_average(result["bytes"] + (result.get("bytes_topology") or 0) for result in results),
    )


def _of_tickets(row: Row, results: list[Record]) -> list[Row]:
    """The runs' tickets: several together, each run's; and averaged into one."""
    together = [result["ensemble"] for result in results if result.get("ensemble", {}).get("members", 1) > 1]
    averaged = [result["superposed"] for result in results if result.get("superposed")]
    made = []
    if together:
        nnz = sum(ticket["nnz"] or 0 for ticket in results[0]["tickets"]) or None
        ratio = _mean(together, "inference_ratio")
        made.append(
            _as_good_as(row, f"{together[0]['members']} together", together, nnz=nnz, inference_flops_ratio=ratio)
        )
    if averaged:
        density, nnz = _mean(averaged, "density"), averaged[0]["nnz"]
        made.append(
            _as_good_as(row, f"{averaged[0]['tickets']} averaged", averaged, nnz=nnz, density=density or row.density)
        )
    return made


def _as_good_as(row: Row, tickets: str, found: list[Record], **other: Any) -> Row:
    """The row of what came out of the same runs; their seconds and bytes are the runs'."""
    own: dict[str, Any] = {"seconds_per_step": None, "seconds_per_epoch": None, "bytes": None, "backend": None}
    return replace(row, tickets=tickets, unfinished=0, **_worth(found), **own, **other)


def _worth(found: list[Record]) -> dict[str, Any]:
    accuracy = Spread.of(one["test_accuracy"] for one in found)
    return {
        "accuracy": accuracy and accuracy.mean,
        "accuracy_std": accuracy and accuracy.std,
        "nll": _mean(found, "test_nll"),
        "ece": _mean(found, "test_ece"),
    }


def _mean(results: list[Record], key: str) -> float | None:
    return _average(result.get(key) for result in results)


def _average(values: Iterable[float | None]) -> float | None:
    spread = Spread.of(values)
    return spread.mean if spread else None


def cells(row: Row) -> dict[str, str]:
    """A row in words, by column title."""

    def beside(ratio: float | None) -> str:
        return "" if ratio is None else f" ({ratio:.2f}x)"

    unfinished = f" ({row.unfinished} unfinished)" if row.unfinished else ""
    spread = "" if row.accuracy_std is None else f" ± {100 * row.accuracy_std:.2f}"
    return {
        "runs": f"  {row.tickets}" if row.tickets else row.runs + unfinished,
        "seeds": str(row.seeds),
        "test %": shown(row.accuracy, scale=100) + spread,
        "NLL": shown(row.nll, "{:.3f}"),
        "ECE": shown(row.ece, "{:.3f}"),
        "density": shown(row.density, "{:.3f}"),
        "R_s": shown(row.exploration_rate),
        "FLOPs train": shown(row.training_flops_ratio, "{:.3f}x"),
        "FLOPs test": shown(row.inference_flops_ratio, "{:.3f}x"),
        "backend": row.backend or ("dense" if row.density == 1 else MISSING),
        "ms/step": shown(row.seconds_per_step, scale=1e3) + beside(row.seconds_ratio),
        "weights": shown(row.nnz, "{:,}"),
        "MB held": shown(row.bytes, scale=1e-6) + beside(row.bytes_ratio),
    }
