"""`load`: a ticket into a model, for inference, without trainer or optimizer."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from regrow.core.errors import choose
from regrow.execution import BACKENDS
from regrow.execution.held import load_held
from regrow.tickets.ticket import Ticket


def load(ticket: Ticket | Path | str, model: nn.Module, backend: str = "sparse") -> nn.Module:
    """Put a ticket into a plain model, in place, for inference: the model in eval mode.

    Args:
        ticket: or the path of its file.
        model: the architecture it was taken from; its weights are replaced.
        backend: "sparse" executes only the surviving weights; "masked" gives the plain model with exact zeros.

    Raises:
        RegrowError: the file is damaged or no ticket, or the model is of another architecture.
    """
    ticket = ticket if isinstance(ticket, Ticket) else Ticket.load(ticket)
    executed = choose(BACKENDS, backend, "backend")()
    if backend == "masked":
        return ticket.apply(model).eval()
    ticket.check(model)
    executed.attach(model, ticket.topology)
    load_held(model, ticket.held_state())
    return model.eval()
