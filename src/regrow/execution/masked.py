"""Masked execution: plain dense parameters, exact zeros where nothing exists. No module is touched."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from regrow.core.errors import RegrowError
from regrow.core.patterns import Pattern
from regrow.core.site import Signal, Site
from regrow.core.topology import Topology
from regrow.execution.optimizers import check_moment, decay_of, first_moment, fresh_state, group_of
from regrow.execution.parts import Part, locate


class MaskedBackend:
    """Multiplies weights and gradients by float masks, a cache of the topology."""

    note = "masked: the arithmetic stays dense, so this run is no faster and no smaller than dense training"

    topology: Topology

    def attach(self, model: nn.Module, topology: Topology, optimizer: Optimizer | None = None) -> None:
        parts = locate(model, topology)
        for part in parts.values():
            if part.built is not None:
                raise RegrowError(f"{part.name!r} belongs to a SparseLinear, which backend='sparse' alone can train")
        self._optimizer = optimizer
        self._weights = [MaskedWeight(mine) for mine in _by_parameter(parts)]
        self._target = {name: topology.nnz_of(name) for name in topology}
        self._needs: frozenset[str] = frozenset()
        self._births: Mapping[str, int] = {}
        self._fresh = {} if optimizer is None else {id(w.parameter): self._probe(optimizer, w) for w in self._weights}
        self.commit(topology)
        for weight in self._weights:
            weight.watch()

    def expect(self, needs: frozenset[str], births: Mapping[str, int]) -> None:
        self._needs, self._births = needs, births
        if self._optimizer is not None and "moment" in needs and "dense_moment" not in needs:
            for fresh in self._fresh.values():
                check_moment(self._optimizer, fresh)
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
    def commit(self, topology: Topology, reborn: Mapping[str, Tensor] | None = None) -> None:
        old = {id(w): w.current_mask().clone() for w in self._weights}
        self.restore(topology, self.buffers())
        for weight in self._weights:
            stay = old[id(weight)].mul_(weight.mask)
            for part in weight.parts:
                if reborn and part.name in reborn:
                    stay.masked_fill_(part.mask(reborn[part.name]), 0.0)
            parameter = weight.parameter
            parameter.mul_(stay)
            weight.mask_grad()
            for key, value in self._state(parameter).items():
                value.mul_(stay)
                if fresh := self._fresh[id(parameter)][key]:
                    value.add_(1 - stay, alpha=fresh)

    @torch.no_grad()
    def project(self) -> None:
        if self._weights:
            torch._foreach_mul_([w.parameter for w in self._weights], [w.current_mask() for w in self._weights])

    @torch.no_grad()
    def settle(self) -> None:
        if "dense_moment" in self._needs:
            for weight in self._weights:
                weight.remember(self._decay(weight), _reduced(weight))

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
        ranked_by: Signal = "moment" if "dense_moment" in self._needs else "grad"
        ranking = weight.moment if ranked_by == "moment" else dense
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
            candidates=None if flat is None else pattern.collect(flat, index, self._births[part.name]),
            ranked_by=ranked_by,
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
        dense = _reduced(weight) if "dense_grad" in self._needs else None
        return dense if dense is not None and dense.any() else None

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


class MaskedWeight:
    """One parameter under its mask: masks gradients as they accumulate, and keeps the dense one when it is wanted."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.parameter = parts[0].parameter
        self._refuse_twice()
        self.mask = torch.ones_like(self.parameter, requires_grad=False)
        self.wanted = False
        self.dense: Tensor | None = None
        self.moment: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def cover(self, topology: Topology) -> None:
        """Take the mask from the topology; rows that no site covers stay."""
        flat = torch.ones(self.parameter.numel(), dtype=self.parameter.dtype, device=self.parameter.device)
        for part in self.parts:
            stretch = flat[part.start : part.start + part.numel]
            stretch.zero_().index_fill_(0, topology.index(part.name).to(flat.device).long(), 1.0)
        self.mask.copy_(flat.view_as(self.mask))

    def current_mask(self) -> Tensor:
        """The mask on the parameter's device and in its type, should the model have moved."""
        self.mask = self.mask.to(self.parameter)
        return self.mask

    def _refuse_twice(self) -> None:
        hooks = getattr(self.parameter, "_post_accumulate_grad_hooks", None) or {}
        if any(isinstance(getattr(hook, "__self__", None), MaskedWeight) for hook in hooks.values()):
            raise RegrowError(f"{self.parts[0].name!r} is sparse already; finalize() the sparsifier it is under first")

    def watch(self) -> None:
        if self.parameter.requires_grad:  # not for inference
            self._handles = [
                self.parameter.register_hook(self._arriving),  # type: ignore[no-untyped-call]
                self.parameter.register_post_accumulate_grad_hook(self._accumulated),  # type: ignore[no-untyped-call]
            ]

    def unwatch(self) -> None:
        for handle in self._handles:
            handle.remove()
        self.forget()

    def forget(self) -> None:
        self.dense = None

    def remember(self, decay: float, dense: Tensor | None) -> None:
        """moment <- decay moment + g, with g in the scale the optimizer saw (unscaled, clipped).

        Out of place: whoever holds a saved state keeps it.
        """
        grad = self.parameter.grad
        self.forget()
        if dense is None or grad is None:
            return
        seen = (grad * self.mask).double().norm()
        raw = (dense * self.mask).double().norm()
        dense = dense * float(seen / raw) if raw > 0 else dense
        self.moment = dense if self.moment is None else self.moment * decay + dense

    def mask_grad(self) -> None:
        """For a gradient that no hook saw; the dense one is kept if it is wanted and none is."""
        grad = self.parameter.grad
        if grad is not None:
            if self.wanted and self.dense is None:
                self.dense = grad.clone()
            grad.mul_(self.current_mask())

    def _arriving(self, grad: Tensor) -> None:
        """Sum the dense gradient over micro-batches, which accumulate until zero_grad; then a new sum begins."""
        if not self.wanted:
            return
        before = self.parameter.grad
        if self.dense is None or before is None or not before.any():
            self.dense = grad.detach().clone()
        else:
            self.dense.add_(grad.detach())

    def _accumulated(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.mul_(self.current_mask())


def _by_parameter(parts: Mapping[str, Part]) -> list[list[Part]]:
    grouped: dict[int, list[Part]] = {}
    for part in parts.values():
        grouped.setdefault(id(part.parameter), []).append(part)
    return list(grouped.values())


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _reduced(weight: MaskedWeight) -> Tensor | None:
    """The dense gradient, its mean over ranks: the stash is taken before DDP reduces, so it is reduced here."""
    if not _distributed():
        return weight.dense
    dense = torch.zeros_like(weight.parameter) if weight.dense is None else weight.dense
    dist.all_reduce(dense)
    return dense.div_(dist.get_world_size())
