"""Same basin? The loss on the straight line between two tickets, and superpositions that look before they average."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from regrow.core.errors import RegrowError
from regrow.tickets.mixture import Mixture
from regrow.tickets.superpose import CIA, Superposition
from regrow.tickets.ticket import Ticket

Evaluate = Callable[[Ticket], float]


@dataclass(frozen=True)
class Barrier:
    """The loss at points of the line (1 - a) theta + a theta'.

    Args:
        at: a, from 0 to 1.
        loss: there.
    """

    at: tuple[float, ...]
    loss: tuple[float, ...]

    @property
    def height(self) -> float:
        """max_a L(a) - [(1 - a) L(0) + a L(1)],  0 in a convex basin (Frankle et al. 2020, arXiv:1912.05671)."""
        first, last = self.loss[0], self.loss[-1]
        return max(loss - (1 - a) * first - a * last for a, loss in zip(self.at, self.loss, strict=True))

    def __str__(self) -> str:
        points = zip(self.at, self.loss, strict=True)
        return "loss along the line: " + ", ".join(f"{loss:.4g} at {a:.2g}" for a, loss in points)


def between(one: Ticket, other: Ticket, a: float) -> Ticket:
    """(1 - a) theta + a theta' on the union of both topologies."""
    mixture = Mixture()
    mixture.add(one, take=1.0 - a)
    mixture.add(other, take=a)
    return mixture.ticket(between=a)


def barrier(one: Ticket, other: Ticket, loss: Evaluate, points: int = 5) -> Barrier:
    """The loss at `points` places of the line between two tickets, both ends among them.

    Args:
        loss: of a ticket, on data of your choice; where there is BatchNorm it may `reestimate` first.
    """
    if points < 3:
        raise RegrowError(f"points={points}: both ends and something between them are needed, at least 3")
    at = tuple(i / (points - 1) for i in range(points))
    return Barrier(at, tuple(loss(between(one, other, a)) for a in at))


class Guarded:
    """A superposition that refuses a ticket from another basin than its first one's.

    Averages across a barrier are worthless (10 % accuracy from tickets of 76 %, Yin et al. 2022, arXiv:2205.15322,
    tables 3 and 4 of the supplement: large restart rates, tickets of uneven quality).

    Args:
        into: what averages.
        loss: of a ticket.
        limit: the highest barrier that is let pass, in units of the loss.
    """

    def __init__(self, into: Superposition, loss: Evaluate, limit: float = 0.1, points: int = 5) -> None:
        self._into, self._loss, self._limit, self._points = into, loss, limit, points
        self._first: Ticket | None = None
        self.barriers: list[Barrier] = []
        self.refused = False

    def add(self, ticket: Ticket) -> None:
        """Raises:
        RegrowError: a barrier lies between; it is shown, and the ticket left out.
        """
        if self._first is not None:
            found = barrier(self._first, ticket, self._loss, self._points)
            self.barriers.append(found)
            self.refused = not found.height <= self._limit  # nor where it is not a number
            if self.refused:
                raise RegrowError(
                    f"ticket {len(self.barriers)} lies in another basin than ticket 0: on the line between them the "
                    f"loss rises by {found.height:.4g}, {self._limit:g} is let pass ({found}). Their average would be "
                    "worthless: use smaller learning rates and less exploration in the cycles, or ensemble them."
                )
        self._into.add(ticket)
        self._first = self._first or ticket

    def result(self) -> Ticket:
        return self._into.result()


class GreedySoup:
    """The mean of the tickets that do it no harm, tried best first (Wortsman et al. 2022, arXiv:2203.05482, alg. 1).

    Holds all of them, in memory, until the end.

    Args:
        score: of a ticket on validation data, higher is better.
        into: makes what averages.
    """

    def __init__(self, score: Evaluate, into: Callable[[], Superposition] = CIA) -> None:
        self._score, self._into = score, into
        self._tickets: list[tuple[float, Ticket]] = []
        self.joined: list[bool] = []
        """Whether each is in it, in the order in which they were added; once there is a result."""

    def add(self, ticket: Ticket) -> None:
        self._tickets.append((self._score(ticket), ticket))

    def result(self) -> Ticket:
        order = sorted(range(len(self._tickets)), key=lambda number: self._tickets[number][0], reverse=True)
        soup, best, self.joined = self._into(), -math.inf, [False] * len(order)
        for number in order:
            trial = copy.deepcopy(soup)
            trial.add(self._tickets[number][1])
            score = self._score(trial.result())
            if score >= best or not any(self.joined):
                soup, best, self.joined[number] = trial, score, True
        average = soup.result()
        return replace(average, meta=average.meta | {"superposed": f"greedy {average.meta['superposed']}"})
