"""Runs side by side: one row per recipe, its seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from regrow.train.paths import RunFolder
from regrow.train.record import Record, read_json


@dataclass(frozen=True)
class Row:
    """The finished runs of one recipe, means over seeds. Ratios are to the dense run; nnz and numel count weights."""

    runs: str
    seeds: int
    unfinished: int
    accuracy: float | None = None
    accuracy_std: float | None = None
    density: float | None = None
    exploration_rate: float | None = None
    training_flops_ratio: float | None = None
    inference_flops_ratio: float | None = None
    seconds_per_step: float | None = None
    seconds_per_epoch: float | None = None
    nnz: int | None = None
    numel: int | None = None
    bytes: int | None = None


def compare(folders: Iterable[RunFolder]) -> list[Row]:
    """A row per recipe, in the order given."""
    grouped = groupby(folders, key=lambda folder: folder.path.resolve().parent)
    return [_row(parent.name, list(seeds)) for parent, seeds in grouped]


def _row(name: str, folders: list[RunFolder]) -> Row:
    results = [read_json(folder.result) for folder in folders if folder.finished]
    unfinished = len(folders) - len(results)
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
        seconds_per_step=_mean(results, "seconds_per_step"),
        seconds_per_epoch=_mean(results, "seconds_per_epoch"),
        nnz=results[0]["nnz"],
        numel=results[0]["numel"],
        bytes=results[0]["bytes"],
    )


def _mean(results: list[Record], key: str) -> float | None:
    values = [result[key] for result in results if result[key] is not None]
    return fmean(values) if values else None


def cells(row: Row) -> dict[str, str]:
    """A row in words, by column title."""

    def shown(value: float | None, form: str = "{:.2f}", scale: float = 1) -> str:
        return "-" if value is None else form.format(scale * value)

    spread = "" if row.accuracy_std is None else f" ± {100 * row.accuracy_std:.2f}"
    return {
        "runs": row.runs + (f" ({row.unfinished} unfinished)" if row.unfinished else ""),
        "seeds": str(row.seeds),
        "test %": shown(row.accuracy, scale=100) + spread,
        "density": shown(row.density, "{:.3f}"),
        "R_s": shown(row.exploration_rate),
        "FLOPs train": shown(row.training_flops_ratio, "{:.3f}x"),
        "FLOPs test": shown(row.inference_flops_ratio, "{:.3f}x"),
        "ms/step": shown(row.seconds_per_step, scale=1e3),
        "s/epoch": shown(row.seconds_per_epoch, "{:.3g}"),
        "weights": "-" if row.nnz is None else f"{row.nnz:,} of {row.numel:,}",
        "MB held": shown(row.bytes, scale=1e-6),
    }
