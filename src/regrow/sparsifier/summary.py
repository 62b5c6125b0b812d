"""What a sparsifier does to a model, in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.methods.base import describe

if TYPE_CHECKING:
    from regrow.sparsifier.shell import Sparsifier


def summarise(sparsifier: Sparsifier) -> str:
    """A line per parameter: shape, density, why; then the totals and what the backend means for speed."""
    topology = sparsifier.topology
    rows = [("parameter", "shape", "density", "nnz", "why")]
    for verdict in sparsifier.verdicts:
        if not verdict.parts:
            rows.append(
                (
                    verdict.name,
                    _shape(tuple(verdict.parameter.shape)),
                    "",
                    str(verdict.parameter.numel()),
                    verdict.reason,
                )
            )
        for part in verdict.parts:
            nnz = topology.nnz_of(part.name)
            rows.append((part.name, _shape(part.shape), f"{nnz / part.numel:.4f}", str(nnz), verdict.reason))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
    return "\n".join(
        [
            *table,
            "",
            f"method   {describe(sparsifier.method)}",
            f"density  {topology.density:.4f} ({topology.nnz} of {topology.numel} weights in {len(topology)} sites)",
            f"R_s      {sparsifier.exploration_rate:.4f} of them have been active up to step {sparsifier.step}",
            f"backend  {sparsifier.backend.note}",
            *(f"tweak    {note}" for note in sparsifier.tweaks.notes()),
        ]
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
