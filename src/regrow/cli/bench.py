"""regrow bench: what sparse training gains here, on this machine and this model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.options import numbers_of
from regrow.cli.tables import print_table

if TYPE_CHECKING:
    from regrow.lab.bench import Bench, Row

MOST = 8  # reasons told in full


def bench(
    model: Annotated[
        str, typer.Option(metavar="NAME", help="mlp, resnet18, timm:NAME, or your module:function.")
    ] = "mlp",
    shape: Annotated[str, typer.Option(metavar="C,H,W", help="Of one input.")] = "1,28,28",
    batch: Annotated[int, typer.Option(min=1, help="Samples of a step.")] = 128,
    sparsity: Annotated[str, typer.Option(metavar="S,S,...", help="Shares of weights removed.")] = "0.9,0.95,0.98",
    method: Annotated[str, typer.Option(metavar="METHOD", help="`regrow show methods` lists them.")] = "rigl",
    samples: Annotated[int, typer.Option(min=1, help="Of an epoch.")] = 60_000,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor; torch decides without.")] = None,
) -> None:
    """Time training steps dense, bf16 dense, masked and sparse, side by side, and say what holds sparse ones up."""
    from regrow.lab.bench import bench as measure
    from regrow.lab.subject import Setting

    dims = tuple(int(size) for size in numbers_of("--shape", shape, low=1))
    sparsities = numbers_of("--sparsity", sparsity, low=0, below=1)
    result = measure(Setting(model, dims, batch, method, threads=threads), sparsities)
    typer.echo(head(result))
    print_table([cells(row, result, samples) for row in result.rows], left=["training"])
    for line in [*verdicts(result), *told(result.rows[-1].way.name, result.reasons)]:
        typer.echo(line)


def head(result: Bench) -> str:
    """What was measured, where."""
    from regrow.lab.machine import machine

    here, setting = machine(), result.setting
    every = f"{setting.method} every {setting.interval} steps" if setting.interval else setting.method
    lines = [
        f"{setting.model}, input {'x'.join(map(str, setting.shape))}, batch {setting.batch}, "
        f"{result.weights:,} weights; SGD with momentum, {every}",
        f"{here['cpu']}, {here['threads']} threads, {here['instructions']}, torch {here['versions']['torch']}",
        *([result.busy] if result.busy else []),
    ]
    return "\n".join(lines)


def cells(row: Row, result: Bench, samples: int) -> dict[str, str]:
    """A row in words, by column title."""
    gain, interval = 1 / row.against_dense.median, row.against_dense
    is_dense = row is result.rows[0]
    return {
        "training": row.way.name,
        "ms/step": f"{1e3 * row.seconds:.2f}",
        "ms/update": "-" if row.update is None else f"{1e3 * row.update:.2f}",
        "s/epoch": f"{row.seconds * (samples // result.setting.batch):.3g}",
        "times as fast [95 %]": "1" if is_dense else f"{gain:.2f} [{1 / interval.high:.2f}, {1 / interval.low:.2f}]",
        "FLOPs forward": f"{row.flops:.3f}x",
        "peak MB": "-" if row.peak is None else f"{row.peak / 1e6:.0f}",
    }


def verdicts(result: Bench) -> list[str]:
    """Where dense training is the faster one, in plain words."""
    _, bf16, *others = result.rows
    lines = [f"Dense is faster than {row.way.name}." for row in others if row.against_dense.low > 1]
    lines += [
        f"Dense in bf16 is faster than {row.way.name}{'' if row.way.bf16 else ', which computes in fp32'}."
        for row in others
        if row.way.backend == "sparse" and bf16.seconds < row.seconds and row.against_dense.low <= 1
    ]
    return lines


def told(name: str, reasons: list[str]) -> list[str]:
    """Why it is not faster: the first few reasons, and how many more there are."""
    if not reasons:
        return [f"In {name}, nothing runs dense and nothing breaks the layout."]
    more = [f"  ... and {len(reasons) - MOST} more"] if len(reasons) > MOST else []
    return [f"Why {name} is not faster still:", *(f"  {reason}" for reason in reasons[:MOST]), *more]
