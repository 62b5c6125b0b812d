"""Tickets side by side: how many connections they share, how far apart their weights are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.tickets.ticket import Ticket


def overlaps(tickets: Sequence[Ticket]) -> Tensor:
    """Intersection over union of their connections, [M, M], in [0, 1].

    Raises:
        RegrowError: tickets of different sites.
    """
    return _pairs(tickets, lambda a, b: a.topology.overlap(b.topology), 1.0)


def distances(tickets: Sequence[Ticket]) -> Tensor:
    """||w_i - w_j||_2 over the sites' weights, those that do not exist being zero, [M, M].

    Raises:
        RegrowError: tickets of different sites.
    """
    return _pairs(tickets, Ticket.distance, 0.0)


def _pairs(tickets: Sequence[Ticket], measure: Callable[[Ticket, Ticket], float], same: float) -> Tensor:
    other = next((t for t in tickets if t.topology.shapes != tickets[0].topology.shapes), None)
    if other is not None:
        raise RegrowError(
            f"tickets of different sites cannot be compared: {tickets[0].topology!r} and {other.topology!r}; name "
            "tickets of one architecture"
        )
    matrix = torch.full((len(tickets), len(tickets)), same, dtype=torch.float64)
    for i, a in enumerate(tickets):
        for j, b in enumerate(tickets[:i]):
            matrix[i, j] = matrix[j, i] = measure(a, b)
    return matrix
