"""Tickets: what a run leaves, a trained sparse subnetwork; and what can be made of several."""

from regrow.tickets.ensemble import Ensemble, predict
from regrow.tickets.load import load
from regrow.tickets.ticket import Ticket

__all__ = ["Ensemble", "Ticket", "load", "predict"]
