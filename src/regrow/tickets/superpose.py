"""Superposition: tickets -> one ticket of the same density. No live model is touched.

Yin et al. 2022, arXiv:2205.15322 (Sup-tickets), whose names CIA, CAA and CIMA these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from regrow.core.errors import RegrowError
from regrow.core.ranking import Budget, best
from regrow.core.topology import Topology
from regrow.tickets.mixture import Mixture
from regrow.tickets.ticket import Ticket


class Superposition(Protocol):
    """Tickets go in one by one, at the memory of one; a single ticket comes out."""

    def add(self, ticket: Ticket) -> None: ...

    def result(self) -> Ticket: ...


@dataclass(frozen=True)
class PruneBack:
    """From the union of the tickets' topologies back to a density, exactly: the largest weights, ties by index.

    Args:
        scope: over all sites at once, as published, or each site for itself.
        density: share kept, in (0, 1]; None for as many weights as the last ticket has.
    """

    scope: Literal["global", "layer"] = "global"
    density: float | None = None

    def __call__(self, ticket: Ticket, like: Topology) -> Ticket:
        """The ticket with `density` or the counts of `like`.

        Raises:
            RegrowError: fewer weights are there than asked for.
        """
        topology = ticket.topology
        if not topology:  # a dense ticket
            return ticket
        asked = {name: self._asked(topology.numel_of(name), like.nnz_of(name)) for name in topology}
        n = self._asked(topology.numel, like.nnz) if self.scope == "global" else asked
        _refuse_more(ticket, n)
        picked = best({name: ticket.state[name].abs() for name in topology}, n)
        index = {name: topology.index(name)[at] for name, at in picked.items()}
        return kept(ticket, Topology(index, topology.shapes))

    def _asked(self, numel: int, nnz: int) -> int:
        return nnz if self.density is None else round(self.density * numel)


def _refuse_more(ticket: Ticket, n: Budget) -> None:
    there = ticket.topology
    asked = [(n, [*there], there.nnz)] if isinstance(n, int) else [(n[s], [s], there.nnz_of(s)) for s in there]
    for wanted, names, have in asked:
        if wanted > have:
            raise RegrowError(
                f"prune-back to {wanted} weights of {', '.join(names[:3])}, but the tickets have only {have} between "
                "them; ask for a lower density"
            )


def kept(ticket: Ticket, topology: Topology) -> Ticket:
    """The ticket on a smaller topology."""
    places = {name: torch.searchsorted(ticket.topology.index(name), topology.index(name)) for name in topology}
    return replace(
        ticket, state=ticket.state | {name: ticket.state[name][at] for name, at in places.items()}, topology=topology
    )


GLOBAL = PruneBack()


class CIA:
    """Connection-ignorant averaging: the mean of M tickets, an absent connection being 0 (Yin et al. 2022, eq. 4).

        theta~ = (1/M) sum_i theta^i

    BatchNorm statistics and all that is not sparse are averaged alike. The published code starts from the network
    before its first cycle, which is M + 1 tickets: add that one too (`sup_tickets(include_pretrained=True)`).

    Args:
        prune: back to density; None leaves the union.
        each: prune after every ticket, as in the paper's algorithm 1: what is pruned is forgotten. By default once, at
            the end, from the exact mean.

    >>> weights = torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([[4.0, 0.0, 6.0]])
    >>> tickets = [Ticket({"weight": w[w != 0]}, Topology.of({"weight": w}), {}) for w in weights]
    >>> superpose(tickets, CIA()).state_dict()["weight"]
    tensor([[4., 0., 3.]])
    """

    def __init__(self, prune: PruneBack | None = GLOBAL, *, each: bool = False) -> None:
        self._mixture, self._prune, self._each = Mixture(), prune, each

    def add(self, ticket: Ticket) -> None:
        self._mixture.add(ticket)
        if self._each:
            self._mixture.restrict(self.result().topology)

    def result(self) -> Ticket:
        return _pruned(self._mixture, self._mixture.ticket(self._mixture.tickets, superposed="cia"), self._prune)


class CAA:
    """Connection-aware averaging: a connection is averaged over the N tickets that have it.

    theta~_kj = sum_i theta^i_kj / N(k, j)
    """

    def __init__(self, prune: PruneBack | None = GLOBAL) -> None:
        self._mixture, self._prune = Mixture(), prune

    def add(self, ticket: Ticket) -> None:
        self._mixture.add(ticket)

    def result(self) -> Ticket:
        mixture = self._mixture
        return _pruned(mixture, mixture.ticket(mixture.tickets, by_count=True, superposed="caa"), self._prune)


class CIMA:
    """Connection-ignorant moving average, from the first ticket on.

        theta~^t = decay theta~^(t-1) + (1 - decay) theta^t

    This is the paper's reading of its beta in {.9, .8, .5, .2, .1}. The published code puts beta on the new ticket
    (where it runs at all): that is CIMA(1 - beta).
    """

    def __init__(self, decay: float = 0.5, prune: PruneBack | None = GLOBAL) -> None:
        self._mixture, self._decay, self._prune = Mixture(), share(decay, "decay"), prune

    def add(self, ticket: Ticket) -> None:
        first = self._mixture.tickets == 0
        self._mixture.add(ticket, keep=self._decay, take=1.0 if first else 1.0 - self._decay)

    def result(self) -> Ticket:
        return _pruned(self._mixture, self._mixture.ticket(superposed=f"cima {self._decay:g}"), self._prune)


AVERAGES: dict[str, Callable[..., Superposition]] = {"cia": CIA, "caa": CAA, "cima": CIMA}


def superpose(tickets: Iterable[Ticket], into: Superposition) -> Ticket:
    """All tickets into one."""
    for ticket in tickets:
        into.add(ticket)
    return into.result()


def reestimate(ticket: Ticket, model: nn.Module, loader: Iterable[Any], device: torch.device | None = None) -> Ticket:
    """The ticket with BatchNorm statistics of its own, cumulative averages over one pass (torch's `update_bn`).

    Args:
        model: a plain model to do it in, whose weights are replaced.
        loader: batches, of which the first entry is the input; the training set's.
        device: where the batches go.
    """
    ticket.apply(model)
    update_bn(loader, model, device)
    return replace(ticket, state=Ticket.of(model, ticket.topology).state)


def share(value: float, name: str) -> float:
    """A number in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise RegrowError(f"{name} {value:g} is outside [0, 1]")
    return value


def _pruned(mixture: Mixture, union: Ticket, prune: PruneBack | None) -> Ticket:
    meta = union.meta | {"tickets": str(mixture.tickets)}
    union = replace(union, meta=meta)
    return union if prune is None else prune(union, mixture.last.topology)
