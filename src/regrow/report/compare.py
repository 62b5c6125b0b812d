"""Runs side by side: one row per recipe, its seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from regrow.train.paths import RunFolder
from regrow.train.record import Record, read_json


@dataclass(frozen=True)
class Row:
    """The finished runs of one recipe, means over seeds; nnz and numel count weights.

    FLOPs ratios are to a dense run of the recipe's length; those of seconds per step and of bytes to the dense runs in
    this comparison of the same size, data and batch, if there are any.
    """

    runs: str
    seeds: int
    unfinished: int
    accuracy: float | None = None
    accuracy_std: float | None = None
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


def compare(folders: Iterable[RunFolder]) -> list[Row]:
    """A row per recipe, in the order given."""
    rows: list[Row] = []
    results: list[list[Record]] = []
    for parent, seeds in groupby(folders, key=lambda folder: folder.path.resolve().parent):
        runs = list(seeds)
        results.append([read_json(run.result) for run in runs if run.finished])
        rows.append(_row(parent.name, len(runs), results[-1]))
    tasks = [_task(found[0]) if found else None for found in results]
    dense = {task: row for task, row in zip(tasks, rows, strict=True) if row.density == 1 and row.backend is None}
    return [_against(row, dense.get(task)) for task, row in zip(tasks, rows, strict=True)]


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
        return Row(name, 0, unfinished)
    accuracy = [result["test_accuracy"] for result in results]
    flops = results[0]["flops"] or {}
    return Row(
        runs=name,
        seeds=len(results),
        unfinished=unfinished,
        accuracy=fmean(accuracy),
        accuracy_std=stdev(accuracy) if len(accuracy) > 1 else None,
        density=_mean(results, "density"),
        exploration_rate=_mean(results, "exploration_rate"),
        training_flops_ratio=flops.get("training_ratio"),
        inference_flops_ratio=flops.get("inference_ratio"),
        backend=results[0].get("backend"),
        seconds_per_step=_mean(results, "seconds_per_step"),
        seconds_per_epoch=_mean(results, "seconds_per_epoch"),
        nnz=results[0]["nnz"],
        numel=results[0]["numel"],
        bytes=fmean(result["bytes"] + result.get("bytes_topology", 0) for result in results),
    )


def _mean(results: list[Record], key: str) -> float | None:
    values = [result[key] for result in results if result[key] is not None]
    return fmean(values) if values else None


def cells(row: Row) -> dict[str, str]:
    """A row in words, by column title."""

    def shown(value: float | None, form: str = "{:.2f}", scale: float = 1) -> str:
        return "-" if value is None else form.format(scale * value)

    def beside(ratio: float | None) -> str:
        return "" if ratio is None else f" ({ratio:.2f}x)"

    spread = "" if row.accuracy_std is None else f" ± {100 * row.accuracy_std:.2f}"
    return {
        "runs": row.runs + (f" ({row.unfinished} unfinished)" if row.unfinished else ""),
        "seeds": str(row.seeds),
        "test %": shown(row.accuracy, scale=100) + spread,
        "density": shown(row.density, "{:.3f}"),
        "R_s": shown(row.exploration_rate),
        "FLOPs train": shown(row.training_flops_ratio, "{:.3f}x"),
        "FLOPs test": shown(row.inference_flops_ratio, "{:.3f}x"),
        "backend": row.backend or ("dense" if row.density == 1 else "-"),
        "ms/step": shown(row.seconds_per_step, scale=1e3) + beside(row.seconds_ratio),
        "s/epoch": shown(row.seconds_per_epoch, "{:.3g}"),
        "weights": shown(row.nnz, "{:,}"),
        "MB held": shown(row.bytes, scale=1e-6) + beside(row.bytes_ratio),
    }
