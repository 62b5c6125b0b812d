"""Mixture: a weighted sum of tickets, held in float64 on the union of their topologies, whatever their number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regrow.core import positions
from regrow.core.errors import RegrowError
from regrow.core.topology import Shape, Topology
from regrow.tickets.ticket import Ticket

State = dict[str, Tensor]


@dataclass(frozen=True)
class Connections:
    """The weights of one site that were in any ticket: where they are, their sum, and in how many tickets."""

    at: Tensor
    total: Tensor
    count: Tensor

    @classmethod
    def none(cls) -> Connections:
        empty = torch.zeros(0, dtype=torch.int64)
        return cls(empty.int(), empty.double(), empty)

    def joined(self, at: Tensor, values: Tensor, keep: float, take: float) -> Connections:
        """keep * these + take * those, on the union of both."""
        union = positions.union(at, self.at)
        mine, theirs = (torch.searchsorted(union, part.to(union.dtype)) for part in (self.at, at))
        total = torch.zeros(len(union), dtype=torch.float64).index_copy_(0, mine, keep * self.total)
        count = torch.zeros(len(union), dtype=torch.int64).index_copy_(0, mine, self.count)
        total.index_add_(0, theirs, take * values.double())
        return Connections(union, total, count.index_add_(0, theirs, torch.ones_like(theirs)))

    def only(self, at: Tensor) -> Connections:
        """Those of the positions `at`, which are among these; the others are forgotten."""
        places = torch.searchsorted(self.at, at.to(self.at.dtype))
        return Connections(at, self.total[places], self.count[places])


class Mixture:
    """keep * held + take * ticket, ticket after ticket; float64, so that the mean of equal tickets is that ticket.

    What is no float (counters of batches) is the last ticket's.
    """

    def __init__(self) -> None:
        self.tickets = 0
        self.sites: dict[str, Connections] = {}
        self._rest: State = {}
        self._last: Ticket | None = None

    @property
    def last(self) -> Ticket:
        if self._last is None:
            raise RegrowError("no ticket has been added yet: there is nothing to superpose")
        return self._last

    @property
    def shapes(self) -> dict[str, Shape]:
        return self.last.topology.shapes

    def add(self, ticket: Ticket, keep: float = 1.0, take: float = 1.0) -> None:
        """Raises:
        RegrowError: the ticket is of another model than those before.
        """
        refuse_another(self._last, ticket)
        rest = {key: value for key, value in ticket.state.items() if key not in ticket.topology}
        for name in ticket.topology:
            held = self.sites.get(name) or Connections.none()
            self.sites[name] = held.joined(ticket.topology.index(name), ticket.state[name], keep, take)
        for key, value in rest.items():
            held_value = keep * self._rest[key] if key in self._rest else 0.0
            self._rest[key] = held_value + take * value.double()
        self.tickets += 1
        self._last = ticket

    def restrict(self, topology: Topology) -> None:
        """Forget the connections outside the topology."""
        self.sites = {name: held.only(topology.index(name)) for name, held in self.sites.items()}

    def ticket(self, divisor: float = 1.0, by_count: bool = False, **meta: object) -> Ticket:
        """What is held, divided, on the union; with `by_count` a connection by the number of tickets that have it."""
        like = self.last
        state = {
            key: (self._rest[key] / divisor).to(value.dtype) if value.is_floating_point() else value.clone()
            for key, value in like.state.items()
            if key in self._rest
        }
        for name, held in self.sites.items():
            mean = held.total / (held.count if by_count else divisor)
            state[name] = mean.to(like.state[name].dtype)
        topology = Topology({name: held.at for name, held in self.sites.items()}, self.shapes)
        return Ticket(state, topology, {key: str(word) for key, word in meta.items()}, dict(like.tied))


def refuse_another(one: Ticket | None, other: Ticket) -> None:
    """Raises:
    RegrowError: the other is of another model.
    """
    mine, theirs = _shapes(one or other), _shapes(other)
    if mine != theirs:
        odd = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        raise RegrowError(
            f"tickets of different models cannot be superposed: they differ in {', '.join(map(repr, odd[:4]))}"
        )


def _shapes(ticket: Ticket) -> dict[str, Shape]:
    """Of the plain model's tensors, by what a ticket calls them."""
    return {key: tuple(value.shape) for key, value in ticket.state.items()} | ticket.topology.shapes
