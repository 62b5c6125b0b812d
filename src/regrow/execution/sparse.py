"""Sparse execution: only the surviving weights exist, in the model, in its gradients and in the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core.patterns import UNSTRUCTURED, Pattern
from regrow.core.site import Site
from regrow.core.topology import Topology
from regrow.execution.optimizers import fresh_state, group_of
from regrow.execution.parts import Part, locate
from regrow.execution.passes import Passes
from regrow.execution.scratch import trim, vacate
from regrow.execution.sparse_sites import places_of
from regrow.execution.sparse_weight import SparseWeight
from regrow.execution.swap import give_back, take_in, take_over


class SparseBackend:
    """Layers become sparse ones in place, each with the same Parameter object, and leave as they came."""

    note = "sparse: only the surviving weights are stored, multiplied and given optimizer state"

    topology: Topology

    def attach(self, model: nn.Module, topology: Topology, optimizer: Optimizer | None = None) -> None:
        places = places_of(model, locate(model, topology))
        fresh = [_fresh(optimizer, place.layer) for place in places]
        self._optimizer, self.topology = optimizer, topology
        self._needs: frozenset[str] = frozenset()
        self._births: Mapping[str, int] = {}
        self._pattern: Pattern = UNSTRUCTURED
        self._passes = Passes()
        self._weights = {
            place.parts[0].name: SparseWeight(place.layer, place.parts, topology, optimizer, state, self._passes)
            for place, state in zip(places, fresh, strict=True)
        }
        self._changed = WeakSet(take_over(model, places))
        vacate()

    def host(self, module: nn.Module) -> None:
        self._changed.update(take_in(module))

    def expect(self, needs: frozenset[str], births: Mapping[str, int]) -> None:
        self._needs, self._births = needs, births
        reduced = None if "dense_moment" in needs else births
        for weight in self._weights.values():
            weight.want(bool(needs & {"dense_grad", "dense_moment"}), reduced, self._pattern, "grad" in needs)

    @property
    def ready(self) -> bool:
        weights = self._weights.values()
        arrived = {
            "dense_grad": any(not weight.witness.empty for weight in weights),
            "dense_moment": any(weight.moment is not None for weight in weights),
        }
        return all(here for signal, here in arrived.items() if signal in self._needs)

    def sites(self, pattern: Pattern) -> dict[str, Site]:
        self._pattern = pattern  # of the candidates, too, that the births which are counted from these sites will need
        return {part.name: self._site(part, w, pattern) for w in self._weights.values() for part in w.parts}

    def mask_grads(self) -> None:
        """None exist outside the topology."""

    @torch.no_grad()
    def commit(self, topology: Topology, reborn: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        born: dict[str, Tensor] = {}
        for weight in self._weights.values():
            weight.forget()  # candidates of one layer would lie beside what others are moved in
        for weight in self._weights.values():
            born |= weight.move(topology, reborn or {})
        self.topology = topology
        return born

    def project(self) -> None:
        """No weights exist outside the topology."""

    @torch.no_grad()
    def settle(self) -> None:
        self._passes.step()
        if sum(weight.house() for weight in self._weights.values()):
            trim()
        for weight in self._weights.values():
            weight.layer.loaded = None
            if "dense_moment" in self._needs:
                weight.remember()

    def buffers(self) -> dict[str, Tensor]:
        return {name: weight.moment for name, weight in self._weights.items() if weight.moment is not None}

    @torch.no_grad()
    def restore(self, topology: Topology, buffers: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.adopt(topology)
            buffer = buffers.get(name)
            weight.moment = None if buffer is None else buffer.to(weight.parameter)
        self.topology = topology

    @torch.no_grad()
    def detach(self) -> None:
        for weight in self._weights.values():
            weight.leave()
        give_back(self._changed)
        self._weights = {}
        vacate()

    @torch.no_grad()
    def _site(self, part: Part, weight: SparseWeight, pattern: Pattern) -> Site:
        name, topology = part.name, self.topology
        dense_moment = "dense_moment" in self._needs
        moment = "moment" in self._needs and self._optimizer is not None
        wants = bool(self._needs & {"dense_grad", "dense_moment"}) and name in self._births
        return Site(
            name=name,
            shape=part.shape,
            index=topology.index(name),
            weight=weight.of(part, weight.parameter.detach()),
            target=weight.target[name],
            pattern=pattern,
            grad=weight.of(part, weight.grad("dense_grad" in self._needs)) if "grad" in self._needs else None,
            moment=weight.of(part, weight.first_moment(dense_moment)) if moment else None,
            candidates=weight.candidates(part, pattern, self._births[name], dense_moment) if wants else None,
        )


def _fresh(optimizer: Optimizer | None, layer: nn.Module) -> dict[str, float]:
    group = None if optimizer is None else group_of(optimizer, cast(nn.Parameter, layer.weight))
    return {} if optimizer is None or group is None else fresh_state(optimizer, group)
