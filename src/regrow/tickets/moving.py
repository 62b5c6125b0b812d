"""EMA and SWA that respect topologies: a connection's average begins when it is born and ends when it is dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.core import positions
from regrow.core.errors import RegrowError
from regrow.tickets.mixture import refuse_another
from regrow.tickets.superpose import share
from regrow.tickets.ticket import Ticket


class RunningAverage:
    """A superposition that stays on the topology of the last ticket, so that nothing need be pruned back.

        v <- decay v + (1 - decay) theta   (EMA),   or the mean since the connection's birth (SWA);   at birth v = theta

    Torch's own averages keep what was dropped and dilute what was born. Over steps, add `Ticket.of(model, sparsifier)`
    as often as wanted.

    Args:
        decay: of the EMA, in [0, 1]; None for SWA, where all tickets count alike.
    """

    def __init__(self, decay: float | None = None) -> None:
        self._decay = None if decay is None else share(decay, "decay")
        self._tickets = 0
        self._value: dict[str, Tensor] = {}  # in float64
        self._age: dict[str, Tensor] = {}  # of each connection, in tickets
        self._last: Ticket | None = None

    def add(self, ticket: Ticket) -> None:
        """Raises:
        RegrowError: the ticket is of another model than those before.
        """
        refuse_another(self._last, ticket)
        self._tickets += 1
        for name, new in ticket.state.items():
            if name in ticket.topology:
                value, age = self._carried(name, ticket)
            else:
                value, age = self._value.get(name, new.double()), torch.tensor(self._tickets)
            rate = 1.0 / age if self._decay is None else torch.where(age == 1, 1.0, 1.0 - self._decay)
            self._value[name], self._age[name] = value + rate * (new.double() - value), age
        self._last = ticket

    def result(self) -> Ticket:
        if self._last is None:
            raise RegrowError("no ticket has been added yet: there is nothing to average")
        state = {
            name: self._value[name].to(value.dtype) if value.is_floating_point() else value
            for name, value in self._last.state.items()
        }
        words = "swa" if self._decay is None else f"ema {self._decay:g}"
        return Ticket(
            state,
            self._last.topology,
            {"superposed": words, "tickets": str(self._tickets)},
            dict(self._last.tied),
        )

    def _carried(self, name: str, ticket: Ticket) -> tuple[Tensor, Tensor]:
        """The averages at the connections of now, and their ages with this ticket; births start at its values."""
        now = ticket.topology.index(name)
        value, age = ticket.state[name].double(), torch.ones(len(now), dtype=torch.int64)
        if self._last is not None:
            before = self._last.topology.index(name)
            both = positions.intersection(now, before)
            here, there = torch.searchsorted(now, both), torch.searchsorted(before, both)
            value = value.index_copy(0, here, self._value[name][there])
            age = age.index_copy(0, here, self._age[name][there] + 1)
        return value, age
