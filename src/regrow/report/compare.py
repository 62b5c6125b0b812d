"""Runs side by side: one row per recipe, its seeds averaged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from regrow.train.paths import RunFolder
from regrow.train.record import Record, read_json, rows


@dataclass(frozen=True)
class Row:
    """The finished runs of one recipe. Means over seeds; FLOPs as shares of the dense run's; sizes in weights, bytes."""

    runs: str
    seeds: int
    unfinished: int
    accuracy: float | None = None
    accuracy_std: float | None = None
    density: float | None = None
    exploration_rate: float | None = None
    training_flops: float | None = None
    inference_flops: float | None = None
    seconds_per_step: float | None = None
    seconds_per_epoch: float | None = None
    nnz: int | None = None
    numel: int | None = None
    bytes: int | None = None


def compare(folders: Iterable[RunFolder]) -> list[Row]:
    """A row per recipe, in the order given."""
    grouped = groupby(folders, key=lambda folder: folder.path.resolve().parent.name)
    return [_row(name, list(seeds)) for name, seeds in grouped]


def _row(name: str, folders: list[RunFolder]) -> Row:
    results = [read_json(folder.result) for folder in folders if folder.finished]
    unfinished = len(folders) - len(results)
    if not results:
        return Row(name, 0, unfinished)
    accuracy = [result["test_accuracy"] for result in results]
    return Row(
        runs=name,
        seeds=len(results),
        unfinished=unfinished,
        accuracy=fmean(accuracy),
        accuracy_std=stdev(accuracy) if len(accuracy) > 1 else None,
        **{
            key: _mean(results, key) for key in ("density", "exploration_rate", "seconds_per_step", "seconds_per_epoch")
        },
        **{f"{part}_flops": _flops(results[0], part) for part in ("training", "inference")},
        **{key: results[0][key] for key in ("nnz", "numel", "bytes")},
    )


def _mean(results: list[Record], key: str) -> float | None:
    values = [result[key] for result in results if result[key] is not None]
    return fmean(values) if values else None


def _flops(result: Record, part: str) -> float | None:
    flops = result["flops"]
    return flops[part] / flops[f"dense_{part}"] if flops else None


def cells(row: Row) -> dict[str, str]:
    """A row in words, by column title."""

    def shown(value: float | None, form: str = "{:.2f}") -> str:
        return "-" if value is None else form.format(value)

    spread = "" if row.accuracy_std is None else f" ± {100 * row.accuracy_std:.2f}"
    return {
        "runs": row.runs + (f" ({row.unfinished} unfinished)" if row.unfinished else ""),
        "seeds": str(row.seeds),
        "test %": shown(row.accuracy and 100 * row.accuracy) + spread,
        "sparsity %": shown(None if row.density is None else 100 * (1 - row.density), "{:.1f}"),
        "R_s": shown(row.exploration_rate),
        "FLOPs train": shown(row.training_flops, "{:.3f}x"),
        "FLOPs test": shown(row.inference_flops, "{:.3f}x"),
        "ms / step": shown(row.seconds_per_step and 1000 * row.seconds_per_step),
        "s / epoch": shown(row.seconds_per_epoch, "{:.3g}"),
        "weights": "-" if row.nnz is None else f"{row.nnz:,} of {row.numel:,}",
        "MB held": shown(row.bytes and row.bytes / 1e6, "{:.2f}"),
    }


def last_row(folder: RunFolder) -> dict[str, Any] | None:
    """The newest metrics of a run, finished or not."""
    found = rows(folder)
    return found[-1] if found else None
