"""The loss as a function of the weights that exist: value, gradient and Hessian products, on one batch."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from regrow.core.topology import Topology, parameter_of

LossFn = Callable[[Tensor, Tensor], Tensor]


class Surface:
    """L(theta) around a model's own theta [n]: its surviving weights and all that is dense, parameter by parameter.

    The model is not touched: a copy runs, in eval mode, so that batch norms use their running statistics.

    Args:
        batch: inputs and targets; L is `loss` of the whole batch, cross-entropy by default.
        topology: which weights exist; without one all do.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: tuple[Tensor, Tensor],
        topology: Topology | None = None,
        loss: LossFn = nn.functional.cross_entropy,
    ) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._batch, self._loss = batch, loss
        self.parameters = {name: p.detach() for name, p in self._model.named_parameters()}
        self._index = _existing(self.parameters, topology)
        self.theta = self.join(self.parameters)

    def join(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Whole weights as theta [n]."""
        return torch.cat([weights[name].flatten()[index] for name, index in self._index.items()])

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """theta [n] by parameter: the values that exist of each."""
        sizes = [len(index) for index in self._index.values()]
        return dict(zip(self._index, theta.split(sizes), strict=True))  # type: ignore[no-untyped-call]

    def weights(self, theta: Tensor) -> dict[str, Tensor]:
        """theta [n] as whole weights, zero where none exists."""
        return {
            name: torch.zeros_like(self.parameters[name])
            .flatten()
            .index_put((self._index[name],), values)
            .view_as(self.parameters[name])
            for name, values in self.split(theta).items()
        }

    def loss(self, theta: Tensor) -> Tensor:
        """L(theta), a scalar."""
        x, y = self._batch
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
            return self._loss(functional_call(self._model, self.weights(theta), (x,)), y)

    @cached_property
    def _slope(self) -> tuple[Tensor, Tensor]:
        """The leaf and the gradient at it, with its graph."""
        with torch.enable_grad():
            leaf = self.theta.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(leaf), leaf, create_graph=True)
        return leaf, gradient

    @property
    def gradient(self) -> Tensor:
        """dL/dtheta, [n]."""
        return self._slope[1].detach()

    def hessian_product(self, v: Tensor) -> Tensor:
        """H v, [n], exactly, by differentiating the gradient (Pearlmutter 1994)."""
        leaf, gradient = self._slope
        if not gradient.requires_grad:  # a loss linear in theta
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(gradient, leaf, v, retain_graph=True, materialize_grads=True)
        return product


def _existing(parameters: Mapping[str, Tensor], topology: Topology | None) -> dict[str, Tensor]:
    """Parameter -> flat positions that exist; of sites that are parts of one, `NAME[q]`, ..., one after the other."""
    parts: dict[str, list[Tensor]] = {}
    offset: Counter[str] = Counter()
    topology = topology or Topology({}, {})
    for site in topology:
        name = parameter_of(site)
        parts.setdefault(name, []).append(topology.index(site).long() + offset[name])
        offset[name] += topology.numel_of(site)
    return {
        name: (torch.cat(parts[name]) if name in parts else torch.arange(p.numel())).to(p.device)
        for name, p in parameters.items()
    }
