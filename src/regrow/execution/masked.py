"""Masked execution: plain dense parameters, exact zeros where nothing exists. No module is touched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core.errors import RegrowError
from regrow.core.patterns import Pattern, candidates
from regrow.core.site import Site
from regrow.core.topology import Topology
from regrow.execution.mask import Mask
from regrow.execution.masked_weight import MaskedWeight, any_of
from regrow.execution.optimizers import decay_of, first_moment, fresh_state, group_of
from regrow.execution.parts import Part, grouped, locate
from regrow.execution.shards import whole


class MaskedBackend:
    """Clears weights, gradients and optimizer state outside the topology."""

    note = "masked: the arithmetic stays dense, so this run is no faster and no smaller than dense training"

    topology: Topology

    def attach(self, model: nn.Module, topology: Topology, optimizer: Optimizer | None = None) -> None:
        parts = locate(model, topology)
        for part in parts.values():
            if part.built is not None:
                raise RegrowError(f"{part.name!r} belongs to a SparseLinear, which backend='sparse' alone can train")
        self._optimizer = optimizer
        self._weights = [MaskedWeight(mine) for mine in grouped(parts.values())]
        self._target = {name: topology.nnz_of(name) for name in topology}
        self._needs: frozenset[str] = frozenset()
        self._births: Mapping[str, int] = {}
        self._fresh = {} if optimizer is None else {id(w.parameter): self._probe(optimizer, w) for w in self._weights}
        self.topology = topology
        self.commit(topology)
        for weight in self._weights:
            weight.watch()

    def host(self, module: nn.Module) -> None:
        """All run as torch has them."""

    def expect(self, needs: frozenset[str], births: Mapping[str, int]) -> None:
        self._needs, self._births = needs, births
        for weight in self._weights:
            weight.wanted = bool(needs & {"dense_grad", "dense_moment"})
            weight.forget()

    @property
    def ready(self) -> bool:
        arrived = {
            "dense_grad": any(w.dense is not None for w in self._weights),
            "dense_moment": any(w.moment is not None for w in self._weights),
        }
        return all(here for signal, here in arrived.items() if signal in self._needs)

    def sites(self, pattern: Pattern) -> dict[str, Site]:
        dense = {id(w): self._dense(w) for w in self._weights}
        return {part.name: self._site(part, w, dense[id(w)], pattern) for w in self._weights for part in w.parts}

    def mask_grads(self) -> None:
        for weight in self._weights:
            weight.mask_grad()

    @torch.no_grad()
    def commit(self, topology: Topology, reborn: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        born = topology.since(self.topology)
        old = [weight.mask for weight in self._weights]
        self.restore(topology, self.buffers())
        for weight, before in zip(self._weights, old, strict=True):
            staying = Mask(partial(weight.staying, before, reborn or {}))
            parameter = weight.parameter
            staying.keep(parameter)
            weight.mask_grad()
            for key, value in self._state(parameter).items():
                staying.keep(value, rest=self._fresh[id(parameter)][key])
        return born

    @torch.no_grad()
    def project(self) -> None:
        for weight in self._weights:
            weight.mask.keep(weight.parameter)

    def settle(self) -> None:
        if "dense_moment" in self._needs:
            for weight in self._weights:
                weight.remember(self._decay(weight))

    def buffers(self) -> dict[str, Tensor]:
        return {w.parts[0].name: w.moment for w in self._weights if w.moment is not None}

    def restore(self, topology: Topology, buffers: Mapping[str, Tensor]) -> None:
        device = {part.name: part.parameter.device for w in self._weights for part in w.parts}
        self.topology = Topology({n: topology.index(n).to(device[n]) for n in topology}, topology.shapes)
        for weight in self._weights:
            weight.cover(topology)
            buffer = buffers.get(weight.parts[0].name)
            weight.moment = None if buffer is None else buffer.to(weight.parameter)

    def detach(self) -> None:
        self.project()
        for weight in self._weights:
            weight.unwatch()

    def _site(self, part: Part, weight: MaskedWeight, dense: Tensor | None, pattern: Pattern) -> Site:
        index = self.topology.index(part.name).to(weight.parameter.device)
        grad, moment = self._signals(part, weight, dense, index)
        ranking = weight.moment if "dense_moment" in self._needs else dense
        wants = self._needs & {"dense_grad", "dense_moment"} and part.name in self._births
        flat = None if ranking is None or not wants else part.of(ranking)
        return Site(
            name=part.name,
            shape=part.shape,
            index=index,
            weight=part.of(weight.parameter).index_select(0, index),
            target=self._target[part.name],
            pattern=pattern,
            grad=grad,
            moment=moment,
            candidates=None if flat is None else candidates(pattern, flat, index, self._births[part.name]),
        )

    def _signals(
        self, part: Part, weight: MaskedWeight, dense: Tensor | None, index: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        def at(signal: Tensor | None) -> Tensor:
            return (
                torch.zeros_like(index, dtype=weight.parameter.dtype)
                if signal is None
                else part.of(signal).index_select(0, index)
            )

        grad = at(dense if dense is not None else weight.parameter.grad) if "grad" in self._needs else None
        if "moment" not in self._needs or self._optimizer is None:
            return grad, None
        kept = weight.moment if "dense_moment" in self._needs else first_moment(self._optimizer, weight.parameter)
        return grad, at(kept)

    def _dense(self, weight: MaskedWeight) -> Tensor | None:
        """The dense gradient of the expected step; None for a weight that no backward pass reached."""
        dense = weight.reduced() if "dense_grad" in self._needs else None
        return dense if dense is not None and any_of(whole(dense)) else None

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """The optimizer's entries shaped like the parameter: found by shape, never by type."""
        state = {} if self._optimizer is None else self._optimizer.state.get(parameter, {})
        fresh = self._fresh.get(id(parameter), {})
        return {k: v for k, v in state.items() if k in fresh and isinstance(v, Tensor) and v.shape == parameter.shape}

    def _probe(self, optimizer: Optimizer, weight: MaskedWeight) -> dict[str, float]:
        group = group_of(optimizer, weight.parameter)
        return {} if group is None else fresh_state(optimizer, group)

    def _decay(self, weight: MaskedWeight) -> float:
        group = None if self._optimizer is None else group_of(self._optimizer, weight.parameter)
        return decay_of(group or {})
