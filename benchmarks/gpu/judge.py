"""The tickets of a run on the test split: each alone, together, averaged; and how a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regrow.core.topology import Topology
from regrow.metrics.calibration import accuracy, ece, nll
from regrow.tickets import Ticket
from regrow.tickets.superpose import CIA, superpose
from regrow.train import data

Answer = Callable[[nn.Module, Tensor], Tensor]  # a model in eval mode and a batch of inputs -> logits [B, C]
Worth = dict[str, float]


@torch.no_grad()
def judge(tickets: Sequence[Ticket], model: nn.Module, source: data.Data, answer: Answer, averaged: bool) -> Worth:
    """Accuracy in [0, 1], NLL in nats and ECE: of the only ticket or the ensemble as `test_...`; of each and of the
    average, where there are several.

    Args:
        model: the plain architecture, whose weights are replaced.
    """
    found, labels = torch.zeros(()), torch.zeros(())
    worth: Worth = {}
    named = {f"ticket_{number}": ticket for number, ticket in enumerate(tickets)}
    for name, ticket in named.items():
        p, labels = _probabilities(ticket, model, source, answer)
        found = found + p / len(tickets)
        if len(tickets) > 1:
            worth |= _worth(f"{name}_", p, labels)
    if averaged:
        average, _ = _probabilities(superpose(tickets, CIA()), model, source, answer)
        worth |= _worth("superposed_", average, labels)
    return _worth("test_", found, labels) | worth


def packed(ticket: Ticket) -> dict[str, Any]:
    """For a checkpoint."""
    return {"state": ticket.state, "topology": ticket.topology.pack()}


def unpacked(stored: dict[str, Any]) -> Ticket:
    return Ticket(stored["state"], Topology.unpack(stored["topology"]))


def _probabilities(ticket: Ticket, model: nn.Module, source: data.Data, answer: Answer) -> tuple[Tensor, Tensor]:
    ticket.apply(model).eval()
    rows = [(answer(model, x).float().softmax(-1).cpu(), y) for x, y in source.evaluate("test")]
    return torch.cat([p for p, _ in rows]), torch.cat([y for _, y in rows])


def _worth(prefix: str, p: Tensor, labels: Tensor) -> Worth:
    return {f"{prefix}{measure.__name__}": measure(p, labels) for measure in (accuracy, nll, ece)}
