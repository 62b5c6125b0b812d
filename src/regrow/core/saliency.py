"""Saliencies: how much each weight of a plain model matters before training. The highest scores are worth keeping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from regrow.core.errors import RegrowError

Batch = tuple[Tensor, Tensor]
LossFn = Callable[[Tensor, Tensor], Tensor]
Weights = Mapping[str, Tensor]
"""Parameter name -> its values, zero where a weight has been removed already."""


class Saliency(Protocol):
    """Scores of weights, each shaped like its weight. The model is left as it was, its running statistics too."""

    @property
    def iterations(self) -> int:
        """How many times weights are scored and removed, a geometric step of density each."""
        ...

    @property
    def runs(self) -> bool:
        """Whether it runs the model, and so needs a batch."""
        ...

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class SNIP:
    """|g w|: what the loss changes by, to first order, without the weight (Lee et al. 2019, arXiv:1810.02340)."""

    iterations: int = 1
    runs = True

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        return {name: (grad * weights[name]).abs() for name, grad in _gradient(model, weights, batch, loss).items()}


@dataclass(frozen=True)
class Taylor:
    """(g w)^2: the squared change of the loss, to first order (Molchanov et al. 2019, arXiv:1906.10771).

    Weights on one batch rank as by SNIP.
    """

    iterations: int = 1
    runs = True

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        return {name: (grad * weights[name]).square() for name, grad in _gradient(model, weights, batch, loss).items()}


@dataclass(frozen=True)
class GraSP:
    """w (Hg), g and H of the loss of logits / T: keeps the flow of gradients (Wang et al. 2020, arXiv:2002.07376).

    The paper removes the highest S = -w (Hg); here the highest are kept, so the sign is the other one. g and H are of
    the candidate weights alone.

    Args:
        temperature: T > 0.
    """

    temperature: float = 200.0
    iterations: int = 1
    runs = True

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise RegrowError(f"temperature={self.temperature:g}: it divides the outputs and is > 0; GraSP's is 200")

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        leaves = _leaves(weights)
        with batch_statistics(model), sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
            outputs = outputs_of(model, leaves, batch[0])
            value = loss(outputs / self.temperature, batch[1])
            grads = torch.autograd.grad(value, [*leaves.values()], create_graph=True, materialize_grads=True)
            flow = torch.stack([(grad * grad.detach()).sum() for grad in grads]).sum()
            hg = torch.autograd.grad(flow, [*leaves.values()], materialize_grads=True)
        return {name: weights[name] * product for name, product in zip(leaves, hg, strict=True)}


@dataclass(frozen=True)
class SynFlow:
    """|w dR/dw|, R = 1^T f(1) of the model made of absolute values (Tanaka et al. 2020, arXiv:2006.05467).

    Its scores are conserved through layers, so that removing weights in small steps empties none before it must; with
    batch statistics they would not be, so batch norms use their running ones. No data is looked at, of the batch only
    the shape. In double precision where single overflows, as in deep networks.
    """

    iterations: int = 100
    runs = True

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        others = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        state = {name: value.detach().clone() for name, value in others.items() if name not in weights}
        given: dict[str, Tensor] = {**state, **weights}
        scores = self._scores(model, given, weights, torch.ones_like(batch[0][:1]))
        if all(bool(score.isfinite().all()) for score in scores.values()):
            return scores
        given = {name: value.double() if value.is_floating_point() else value for name, value in given.items()}
        ones = torch.ones_like(batch[0][:1])
        return self._scores(model, given, weights, ones.double() if ones.is_floating_point() else ones)

    def _scores(self, model: nn.Module, given: Weights, names: Iterable[str], ones: Tensor) -> dict[str, Tensor]:
        state = {name: value.abs() if value.is_floating_point() else value for name, value in given.items()}
        leaves = _leaves({name: state[name] for name in names})
        with _evaluating(model):
            flow = _call(model, {**state, **leaves}, ones).sum()
        grads = torch.autograd.grad(flow, [*leaves.values()], materialize_grads=True)
        return {name: (leaf.detach() * grad).abs() for (name, leaf), grad in zip(leaves.items(), grads, strict=True)}


@dataclass(frozen=True)
class Magnitude:
    """|w|: keeps what a trained model has learnt (Han et al. 2015, arXiv:1506.02626)."""

    iterations: int = 1
    runs = False

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        return {name: weight.abs() for name, weight in weights.items()}


@dataclass(frozen=True)
class Random:
    """Uniform numbers from torch's generator: what there is to beat."""

    iterations: int = 1
    runs = False

    def __call__(self, model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
        return {name: torch.rand(weight.shape) for name, weight in weights.items()}


SALIENCIES: dict[str, Callable[..., Saliency]] = {
    "snip": SNIP,
    "grasp": GraSP,
    "synflow": SynFlow,
    "taylor": Taylor,
    "magnitude": Magnitude,
    "random": Random,
}


def _gradient(model: nn.Module, weights: Weights, batch: Batch, loss: LossFn) -> dict[str, Tensor]:
    leaves = _leaves(weights)
    with batch_statistics(model):
        value = loss(outputs_of(model, leaves, batch[0]), batch[1])
    grads = torch.autograd.grad(value, [*leaves.values()], materialize_grads=True)
    return dict(zip(leaves, grads, strict=True))


def outputs_of(model: nn.Module, leaves: Weights, inputs: Tensor) -> Tensor:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # running statistics move on the copies
    return _call(model, {**buffers, **leaves}, inputs)


def _call(model: nn.Module, state: Weights, inputs: Tensor) -> Tensor:
    outputs: Tensor = functional_call(model, dict(state), (inputs,))
    if not isinstance(outputs, Tensor):
        raise RegrowError(
            f"{type(model).__name__} returns {type(outputs).__name__}, but a saliency needs one tensor of outputs: "
            "score a wrapper that returns it, and give the Topology"
        )
    return outputs


def _leaves(weights: Weights) -> dict[str, Tensor]:
    return {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """As in training, but for dropout: before training, running statistics say nothing."""
    with _evaluating(model):
        for module in model.modules():
            module.training = isinstance(module, _NormBase)
        yield


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
