"""A stack: a model every tensor of which has a first axis of members; its sparse layers hold all their connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.tickets.members import MembersLinear, PlainLinear
from regrow.tickets.ticket import Ticket


def stackable(model: nn.Module, ticket: Ticket) -> bool:
    """Can the sparse layers of several members be one? Those of plain nn.Linear modules on the CPU can."""
    owners = [model.get_submodule(site.rpartition(".")[0]) for site in ticket.topology]
    shared = {*ticket.tied.values()} & {*ticket.topology}
    return not shared and all(type(owner) is nn.Linear and owner.weight.device.type == "cpu" for owner in owners)


def check(model: nn.Module, tickets: Sequence[Ticket]) -> None:
    """Raises:
    RegrowError: a ticket does not fit the model, or not the others.
    """
    for ticket in tickets:
        ticket.check(model)
        if ticket.topology.shapes != tickets[0].topology.shapes or ticket.tied != tickets[0].tied:
            raise RegrowError("the tickets of an ensemble must have the same sparse sites; these are of different runs")


def stack(model: nn.Module, tickets: Sequence[Ticket], backend: str) -> nn.Module:
    """Turn `model` into the stack of these tickets. On the sparse backend it must be `stackable`."""
    model.requires_grad_(False)
    if backend == "sparse":
        model = _with_members(model, tickets)
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = PlainLinear
    states = [ticket.state if backend == "sparse" else ticket.state_dict() for ticket in tickets]
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if _of_members(model, name):
            continue
        if name in states[0]:
            _put(model, name, torch.stack([state[name] for state in states]).to(tensor.device))
        else:  # a buffer that is in no state_dict
            _put(model, name, tensor.expand(len(tickets), *tensor.shape))
    for name, shared in tickets[0].tied.items():
        _put(model, name, _get(model, shared))
    return model


def stacked(model: nn.Module) -> dict[str, Tensor]:
    """The tensors with an axis of members, by name: what vmap runs over."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: t for name, t in named if not _of_members(model, name) or name.endswith("member")}


def _with_members(model: nn.Module, tickets: Sequence[Ticket]) -> nn.Module:
    """The model whose sparse layers are those of all members."""
    for site in tickets[0].topology:
        owner = site.rpartition(".")[0]
        bias = f"{owner}.bias" if owner else "bias"
        layer = MembersLinear(
            [ticket.topology for ticket in tickets],
            site,
            [ticket.state[site] for ticket in tickets],
            [ticket.state[bias] for ticket in tickets if bias in ticket.state],
        )
        if not owner:
            return layer
        model.set_submodule(owner, layer)
    return model


def _of_members(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), MembersLinear)


def _get(model: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(owner), leaf)
    return found


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """In the place of the parameter or buffer of this name; as a buffer, so that nobody trains it."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor
