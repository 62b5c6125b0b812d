"""Scales: one number for every tensor of a network, trained on what the scaled network does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from math import isfinite
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from regrow.core.errors import RegrowError
from regrow.core.saliency import Batch, LossFn, batch_statistics, outputs_of


class Settings(Protocol):
    """How scales are trained."""

    @property
    def iterations(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def floor(self) -> float: ...
    @property
    def clip(self) -> float: ...


@dataclass
class Scaled:
    """A model whose tensors are alpha_k Theta_k, zero where nothing exists.

    Args:
        alpha: the scales, [K].
        start: Theta, under the masks.
        masks: of those tensors that are sparse.
        batches: goes round for ever.
    """

    model: nn.Module
    alpha: Tensor
    start: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    loss_fn: LossFn
    batches: Iterator[Batch]

    def tensors(self) -> dict[str, Tensor]:
        scales = self.alpha.unbind()
        return {name: a.to(t.dtype) * t for a, (name, t) in zip(scales, self.start.items(), strict=True)}

    def batch(self) -> Batch:
        inputs, targets = next(self.batches)
        device = next(iter(self.start.values())).device
        return inputs.to(device), targets.to(device)

    def loss(self, tensors: Mapping[str, Tensor], *batches: Batch) -> Tensor:
        inputs, targets = (torch.cat(pair) for pair in zip(*batches, strict=True))
        return self.loss_fn(outputs_of(self.model, tensors, inputs), targets)

    def gradients(self, tensors: Mapping[str, Tensor], *batches: Batch) -> dict[str, Tensor]:
        """Of the loss, where weights exist; they can be differentiated again."""
        loss = self.loss(tensors, *batches)
        grads = torch.autograd.grad(loss, [*tensors.values()], create_graph=True, materialize_grads=True)
        return {name: g * self.masks[name] if name in self.masks else g for name, g in zip(tensors, grads, strict=True)}


class Aim(Protocol):
    def __call__(self, net: Scaled) -> tuple[Tensor, bool]:
        """What to lower, a function of the scales, and whether that is the constraint."""


@dataclass(frozen=True)
class LookAhead:
    """L(Theta - eta g) / eta, or the norm of g while that is above gamma (Zhu et al. 2021, arXiv:2102.08098, eq. 1).

    g is of two batches, the loss after the step of the first of them and a third.
    """

    eta: float
    gamma: float
    signs: bool
    normalise: bool

    def __call__(self, net: Scaled) -> tuple[Tensor, bool]:
        tensors, first = net.tensors(), net.batch()
        grads = net.gradients(tensors, first, net.batch())
        size = torch.stack([g.abs().sum() if self.signs else g.square().sum() for g in grads.values()]).sum()
        norm = size if self.signs else size.sqrt()
        if norm.item() > self.gamma:
            return norm, True
        stepped = {name: tensors[name] - self.eta * self._direction(g.detach(), norm) for name, g in grads.items()}
        return net.loss(stepped, first, net.batch()) / self.eta, False

    def _direction(self, grad: Tensor, norm: Tensor) -> Tensor:
        if self.signs:
            return grad.sign()
        return grad / norm.detach() if self.normalise else grad


def balance(net: Scaled) -> tuple[Tensor, bool]:
    """Variance over the sparse tensors of log RMS(g): all gradients equally large."""
    grads = net.gradients(net.tensors(), net.batch(), net.batch())
    means = [grads[name].square().sum() / mask.sum() for name, mask in net.masks.items()]
    return torch.stack(means).clamp(min=1e-30).log().var(correction=0), False


def train(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    batches: Iterable[Batch],
    loss: LossFn,
    aim: Aim,
    settings: Settings,
) -> dict[str, Tensor]:
    """Parameter -> its scale. The model is left as it was; batch norms use the statistics of their batch.

    Raises:
        RegrowError: no batches, or the aim is not finite.
    """
    if iter(batches) is batches or next(iter(batches), None) is None:
        raise RegrowError("rescaled-init: batches are gone round several times; give a list of some, or a DataLoader")
    # contiguous: of channels_last, second derivatives of convolutions take half as long again
    start = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    start |= {name: weight * masks[name] for name, weight in start.items() if name in masks}
    floors = torch.tensor([0.0 if name.endswith("bias") else settings.floor for name in start], dtype=torch.float64)
    alpha = torch.ones(len(start), dtype=torch.float64, requires_grad=True)
    net = Scaled(model, alpha, start, masks, loss, chain.from_iterable(repeat(batches)))
    adam = _Adam(len(start), settings)
    with batch_statistics(model), sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
        for iteration in range(settings.iterations):
            value, constraint = aim(net)
            if not isfinite(value.item()):
                raise RegrowError(f"rescaled-init: its objective is {value.item()} at iteration {iteration}; lower lr")
            (grad,) = torch.autograd.grad(value, [alpha])
            with torch.no_grad():
                alpha.sub_(adam.step(grad, constraint)).copy_(torch.maximum(alpha, floors))
    return {name: a.to(start[name]) for name, a in zip(start, alpha.detach().unbind(), strict=True)}


class _Adam:
    """Adam on the clipped derivatives by the scales; objective and constraint share their second moment alone."""

    def __init__(self, size: int, settings: Settings) -> None:
        self.settings = settings
        self.steps = {False: 0, True: 0}
        self.first = {constraint: torch.zeros(size, dtype=torch.float64) for constraint in self.steps}
        self.second = torch.zeros(size, dtype=torch.float64)

    def step(self, grad: Tensor, constraint: bool) -> Tensor:
        grad = grad.clamp(-self.settings.clip, self.settings.clip)
        self.steps[constraint] += 1
        first = self.first[constraint].mul_(0.9).add_(grad, alpha=0.1) / (1 - 0.9 ** self.steps[constraint])
        second = self.second.mul_(0.999).addcmul_(grad, grad, value=0.001) / (1 - 0.999 ** sum(self.steps.values()))
        return self.settings.lr * first / (second.sqrt() + 1e-8)
