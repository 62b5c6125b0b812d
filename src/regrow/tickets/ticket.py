"""Ticket: a trained sparse subnetwork, frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology, parameter_of
from regrow.execution.held import held_state
from regrow.execution.parts import FUSED, Part, locate
from regrow.execution.refuse import unwrap_model
from regrow.execution.shards import whole
from regrow.sparsifier import Sparsifier


@dataclass(frozen=True, eq=False)
class Ticket:
    """A trained sparse subnetwork, frozen: values where weights exist, on the CPU, at the size of what exists.

    Args:
        state: site -> its values [nnz], in the order of `topology.index(site)`; every other key of the plain model's
            state_dict -> its tensor. A fused projection of which only some parts are sites has its other parts under
            the names that parts have: `NAME[v]`.
        topology: which weights exist.
        meta: what is to be known of it, in words: seed, step, accuracy.
        tied: key of the state_dict -> the key whose tensor it shares.
    """

    state: dict[str, Tensor]
    topology: Topology
    meta: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.topology:
            values, nnz = self.state.get(name), self.topology.nnz_of(name)
            if values is None or values.shape != (nnz,):
                found = "nothing" if values is None else f"a tensor of shape {tuple(values.shape)}"
                raise RegrowError(f"a ticket's state holds {found} for site {name!r}; its topology has {nnz} values")

    @classmethod
    def of(cls, model: nn.Module, on: Sparsifier | Topology, **meta: object) -> Ticket:
        """A copy of a live model, on either backend, made without a dense copy of its sparse layers.

        Args:
            on: the sparsifier, or the topology that the model is on.

        Raises:
            RegrowError: weights outside the topology are not zero, a sparse layer is on another topology, or a tweak
                still changes the model.
        """
        if isinstance(on, Sparsifier):
            on.tweaks.check_plain()
        topology = (on.topology if isinstance(on, Sparsifier) else on).to("cpu")
        model = unwrap_model(model)
        parts, held, tied = locate(model, topology), held_state(model), _tied(model, topology)
        _refuse_tied_later(topology, tied)
        state = {key: value for key, value in held.items() if key not in tied}
        for site in dict.fromkeys(parameter_of(name) for name in topology):
            state.pop(site)
        state |= {name: _values(part, topology.index(name)) for name, part in parts.items()}
        state |= {part.name: part.of(part.parameter).view(part.shape) for part in _beside(model, parts)}
        state = {key: whole(value.detach()).to("cpu", copy=True) for key, value in state.items()}
        return cls(state, topology, {key: str(word) for key, word in meta.items()}, tied)

    def state_dict(self) -> dict[str, Tensor]:
        """The plain model's: same keys and shapes, exact zeros outside the topology."""
        return self._whole({name: self.dense(name) for name in self.topology})

    def held_state(self) -> dict[str, Tensor]:
        """That of the model on the sparse backend: a sparse weight is the vector of its values."""
        return self._whole({key: value.flatten() for key, value in self.state.items() if key.endswith("]")})

    def _whole(self, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state under the model's own keys, with these tensors for sites."""
        whole = self.state | dict(sites)
        for name in [key for key in whole if key.endswith(f"[{FUSED[0]}]")]:
            fused = name.removesuffix(f"[{FUSED[0]}]")
            whole[fused] = torch.cat([whole.pop(f"{fused}[{part}]") for part in FUSED])
        return whole | {key: whole[shared] for key, shared in self.tied.items()}

    def dense(self, name: str) -> Tensor:
        """The weight of one site, [its shape], with exact zeros."""
        values, shape = self.state[name], self.topology.shape(name)
        flat = values.new_zeros(prod(shape))
        return flat.index_copy_(0, self.topology.index(name).long(), values).view(shape)

    def apply(self, model: nn.Module) -> nn.Module:
        """Load it into a plain model, which is returned.

        Raises:
            RegrowError: the model has other weights, or its sparse layers are on another topology.
        """
        self.check(model)
        for name, part in locate(model, self.topology).items():
            _check_topology(part, self.topology.index(name))
        model.load_state_dict(self.state_dict())
        return model

    def check(self, model: nn.Module) -> None:
        """Raises:
        RegrowError: this is not the architecture the ticket was taken from; nothing is changed.
        """
        parts = locate(model, self.topology)
        theirs = {key: tuple(value.shape) for key, value in held_state(model).items()}
        mine = {key: tuple(value.shape) for key, value in self.held_state().items()}
        sites = {parameter_of(name) for name in self.topology}
        sites |= {key for key, shared in self.tied.items() if shared in sites}
        wrong = [name for name, part in parts.items() if part.shape != self.topology.shape(name)]
        wrong += [key for key in mine.keys() | theirs.keys() if key not in sites and mine.get(key) != theirs.get(key)]
        if wrong:
            key = sorted(wrong)[0]
            ours = self.topology.shape(key) if key in parts else mine.get(key, "nothing")
            other = parts[key].shape if key in parts else theirs.get(key, "nothing")
            raise RegrowError(
                f"the ticket does not fit this {type(model).__name__}: {key!r} is {ours} in the ticket and {other} in "
                f"the model, and {len(wrong) - 1} more differ. Build the model that it was taken from"
            )

    @property
    def nbytes(self) -> int:
        """Memory of its tensors and positions."""
        tensors = [*self.state.values(), *map(self.topology.index, self.topology)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def distance(self, other: Ticket) -> float:
        """||w - w'||_2 over the sites' weights, those that do not exist being zero."""
        both = self.topology & other.topology
        squares = sum(t.state[name].double().square().sum() for t in (self, other) for name in t.topology)
        shared = sum((self._at(both, name) * other._at(both, name)).sum() for name in both)
        return math.sqrt(max(float(squares - 2 * shared), 0.0))

    def _at(self, topology: Topology, name: str) -> Tensor:
        """The values at these of its connections, in double precision."""
        return self.state[name][torch.searchsorted(self.topology.index(name), topology.index(name))].double()

    def save(self, path: Path | str) -> None:
        """Write it: values and positions, safetensors, whole or not at all."""
        from regrow.tickets import file

        file.save(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> Ticket:
        """Read it, running no code from the file.

        Raises:
            RegrowError: damaged, no ticket, or written by a newer version.
        """
        from regrow.tickets import file

        return file.load(Path(path))


def _values(part: Part, at: Tensor) -> Tensor:
    """The values of a site where weights exist, [nnz]."""
    _check_topology(part, at)
    if part.built is not None:  # a sparse layer: its parameter is the vector of its values
        return part.parameter[part.start : part.start + at.numel()]
    flat = part.of(part.parameter)
    values = flat[at.to(flat.device).long()]
    outside = int(flat.count_nonzero() - values.count_nonzero())
    if outside:
        raise RegrowError(
            f"{part.name!r} has {outside} weights outside the topology that are not zero: a ticket would drop them. "
            "Pass the model's own topology, as Topology.of(model.state_dict()) gives it"
        )
    return values


def _check_topology(part: Part, at: Tensor) -> None:
    """A sparse layer holds what is at its own positions, and nothing else can be taken from it or put there."""
    if part.built is not None and not torch.equal(part.built.long().cpu(), at.long()):
        raise RegrowError(
            f"{part.name!r} is on another topology; capture with its own sparsifier, apply tickets to plain models "
            "(a copy.deepcopy is one)"
        )


def _beside(model: nn.Module, parts: Mapping[str, Part]) -> list[Part]:
    """The parts of fused projections that are no sites themselves."""
    fused = {parameter_of(name) for name in parts if "[" in name}
    return [
        part for name, part in locate(model, [f"{w}[{p}]" for w in fused for p in FUSED]).items() if name not in parts
    ]


def _refuse_tied_later(topology: Topology, tied: Mapping[str, str]) -> None:
    """Two sites cannot be one weight."""
    for name in (name for name in map(parameter_of, topology) if name in tied):
        raise RegrowError(
            f"{tied[name]!r} and {name!r} are two sites, but now they are one weight: tie weights before sparsify"
        )


def _tied(model: nn.Module, topology: Topology) -> dict[str, str]:
    """Names of shared parameters -> the one they are kept under: the site's, else the first."""
    keeper: dict[int, str] = {}
    sites = {parameter_of(name) for name in topology}
    named = list(model.named_parameters(remove_duplicate=False))
    for name, parameter in sorted(named, key=lambda pair: pair[0] not in sites):
        keeper.setdefault(id(parameter), name)
    return {name: keeper[id(parameter)] for name, parameter in named if keeper[id(parameter)] != name}
