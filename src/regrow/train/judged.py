"""What a run's end finds beyond its result, for people to look at: small tables, in the terms of `evaluation.json`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regrow.core.topology import Topology
from regrow.metrics.calibration import reliability
from regrow.tickets import Ticket
from regrow.tickets.basin import Barrier, Evaluate, barrier

if TYPE_CHECKING:
    from regrow.train.paths import RunFolder
    from regrow.train.record import Record


class Judged:
    """Collects what `judged.json` holds.

    `systems`: predictor -> its reliability table. `diversity`: of every two tickets the share of samples that they
    answer differently, and the intersection over union of their connections. `paths`: the validation loss on the
    straight line from the first ticket to each other.
    """

    def __init__(self) -> None:
        self.systems: Record = {}
        self.paths: list[Barrier] = []
        self._said: list[Tensor] = []
        self._packed: list[dict[str, Any]] = []  # a bit a weight at most, whatever their number

    def predictions(self, name: str, p: Tensor, labels: Tensor) -> None:
        """Of one predictor: probabilities [N, C] and labels [N]."""
        self.systems[name] = {"reliability": [asdict(row) for row in reliability(p, labels)]}

    def ticket(self, topology: Topology, p: Tensor, labels: Tensor) -> None:
        """The next ticket: its probabilities, and which weights it has."""
        self.predictions(f"member {len(self._said)}", p, labels)
        self._said.append(p.argmax(-1))
        self._packed.append(topology.pack())

    def record(self) -> Record:
        """All of it as plain numbers; what there is none of is left out."""
        found: Record = {"systems": self.systems}
        if len(self._said) > 1:
            found["diversity"] = self._diversity()
        if self.paths:
            found["paths"] = [{"at": list(path.at), "loss": list(path.loss)} for path in self.paths]
        return found

    def _diversity(self) -> Record:
        apart = [[float((a != b).double().mean()) for b in self._said] for a in self._said]
        if not any(packed["nnz"] for packed in self._packed):
            return {"disagreements": apart}
        shared = torch.eye(len(self._packed), dtype=torch.float64)
        for i, j in combinations(range(len(self._packed)), 2):
            one, other = (Topology.unpack(self._packed[k]) for k in (i, j))
            shared[i, j] = shared[j, i] = one.overlap(other)
        return {"disagreements": apart, "overlaps": shared.tolist()}


def between_tickets(folder: RunFolder, tickets: int, loss: Evaluate) -> list[Barrier]:
    """The loss on the line from a run's first ticket to each other one: two in memory at a time."""
    if tickets < 2:
        return []
    first = Ticket.load(folder.ticket(0))
    return [barrier(first, Ticket.load(folder.ticket(number)), loss) for number in range(1, tickets)]
