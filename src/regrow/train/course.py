"""The course of a topology: density and R_s of every layer, and how many connections of each age are left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regrow.core import positions

if TYPE_CHECKING:
    from regrow.core.topology import Topology
    from regrow.sparsifier import Sparsifier
    from regrow.train.record import Record

BINS = 64  # of birth times: a run of any length keeps a byte per connection and writes at most so many counts a row


class Course:
    """Looked at when an epoch ends and when a checkpoint is written, never during a step.

    A connection's birth is the epoch in which it was first seen, counted from 1; 0 for those of the first topology.
    Births are kept in bins of `width` epochs, which doubles when they would be more than 64: `0` stays the start, and
    bin b > 0 holds the epochs (b - 1) width + 1 to b width.
    """

    def __init__(self, sparsifier: Sparsifier | None) -> None:
        self._sparsifier = sparsifier
        self._width = 1
        self._born: dict[str, Tensor] = {}  # empty while nothing has moved
        self._seen = sparsifier.topology if sparsifier else None

    def look(self, epoch: int) -> None:
        """Take note of what has come and gone by now, in that epoch. Costs O(nnz)."""
        now = self._sparsifier.topology if self._sparsifier else None
        if now is None or self._seen is None or now is self._seen:
            return
        if not self._born:
            self._born = {name: torch.zeros(self._seen.nnz_of(name), dtype=torch.uint8) for name in self._seen}
        while (epoch - 1) // self._width >= BINS:
            self._width *= 2
            self._born = {name: (born + 1) // 2 for name, born in self._born.items()}
        newborn = 1 + (epoch - 1) // self._width
        self._born = {name: _carried(born, self._seen, now, name, newborn) for name, born in self._born.items()}
        self._seen = now

    def row(self) -> Record:
        """For the metrics of an epoch, by site; of births, `alive[b]` counts the connections of bin b that exist."""
        if not self._sparsifier:
            return {}
        row: Record = {
            "density_by_layer": self._sparsifier.topology.densities(),
            "exploration_by_layer": self._sparsifier.explored.densities(),
        }
        if self._born:
            alive = torch.stack([torch.bincount(born, minlength=BINS + 1) for born in self._born.values()]).sum(0)
            last = int(alive.nonzero().max())
            row["births"] = {"width": self._width, "alive": alive[: last + 1].tolist()}
        return row

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, after `look`: the topology is the sparsifier's."""
        return {"width": self._width, "born": self._born}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint, once the sparsifier has. None, of an earlier version: ages count from here."""
        if state:
            self._width, self._born = state["width"], state["born"]
        self._seen = self._sparsifier.topology if self._sparsifier else None


def _carried(born: Tensor, old: Topology, new: Topology, name: str, newborn: int) -> Tensor:
    match = positions.match(old.index(name).cpu(), new.index(name).cpu())
    return positions.carry(born, match, newborn)
