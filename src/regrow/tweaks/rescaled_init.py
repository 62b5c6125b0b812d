"""Layer-wise re-scaled initialisation: one scale for each tensor of the initialisation, under the first topology."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError, choose
from regrow.tweaks.base import Context, Tweak
from regrow.tweaks.scales import LookAhead, balance, train

STEPS = ("sgd", "adam")


@dataclass(kw_only=True)
class RescaledInit(Tweak):
    """Theta <- alpha_k Theta_k for every tensor k, before training: signs, zeros and ratios within a tensor stay.

    Args:
        by: "gradinit": the loss after one look-ahead step is low, while the gradient's norm is at most gamma (Zhu et
            al. 2021, arXiv:2102.08098, eq. 1); "fan-in": each output as strong as its own number of inputs asks for,
            and no data (Evci et al. 2022, arXiv:2010.03533); "gradient-flow": the gradients of all weights equally
            large.
        step: of the look-ahead: "sgd" (norm ||g||_2) or "adam" (the signs of g, norm ||g||_1).
        iterations: steps of the scales.
        lr: of the scales, by Adam.
        eta: length of the look-ahead step.
        gamma: bound of the gradient's norm; inf for none.
        normalise: whether the look-ahead of "sgd" goes along g / ||g||.
        floor: the least scale of weights; that of biases is 0.
        clip: bound of the derivative by a scale.
    """

    by: str = "gradinit"
    step: str = "sgd"
    iterations: int = 180
    lr: float = 1e-2
    eta: float = 0.1
    gamma: float = 1.0
    normalise: bool = True
    floor: float = 0.01
    clip: float = 1.0
    until: float = field(default=0.0, init=False, repr=False)
    scales: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    """Parameter -> its scale, once attached."""

    def __post_init__(self) -> None:
        choose(RULES, self.by, "re-scaled initialisation")
        choose(dict.fromkeys(STEPS), self.step, "look-ahead step")
        if min(self.iterations, self.lr, self.eta, self.gamma, self.clip) <= 0 or not 0 <= self.floor <= 1:
            raise RegrowError(f"{self!r}: iterations, lr, eta, gamma and clip are > 0, the floor is in [0, 1]")

    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        masks = _masks(self.name, model, context)
        scales = RULES[self.by](self, model, masks, context)
        with torch.no_grad():
            for name, scale in scales.items():
                model.get_parameter(name).mul_(scale)
                self.scales[name] = float(scale.mean())
        return {}

    def note(self) -> str:
        if not self.scales:
            return ""
        low, high = min(self.scales.values()), max(self.scales.values())
        return f"{len(self.scales)} tensors were scaled by {low:.3g} to {high:.3g} before training"


Masks = Mapping[str, Tensor]
"""Parameter -> what exists of it; all of it where there is none."""


def _gradinit(tweak: RescaledInit, model: nn.Module, masks: Masks, context: Context) -> dict[str, Tensor]:
    ahead = LookAhead(tweak.eta, tweak.gamma, tweak.step == "adam", tweak.normalise)
    return _trained(tweak, model, masks, context, ahead)


def _gradient_flow(tweak: RescaledInit, model: nn.Module, masks: Masks, context: Context) -> dict[str, Tensor]:
    return _trained(tweak, model, masks, context, balance)


def _trained(tweak: RescaledInit, model: nn.Module, masks: Masks, context: Context, aim: object) -> dict[str, Tensor]:
    if context.batches is None or context.loss is None:
        missing = "batches" if context.batches is None else "loss"
        raise RegrowError(
            f"{tweak.name} by {tweak.by!r} looks at data, and there are no {missing}: give sparsify {missing}=..., "
            "some batches (inputs, targets) of the training set, or take by='fan-in'"
        )
    return train(model, masks, context.batches, context.loss, aim, tweak)  # type: ignore[arg-type]


def _fan_in(tweak: RescaledInit, model: nn.Module, masks: Masks, context: Context) -> dict[str, Tensor]:
    """sqrt(fan_in / its inputs that exist) for every output; 1 where none exists."""
    scales = {}
    for name, mask in masks.items():
        inputs = mask.flatten(1).sum(1).clamp(min=1)
        ratio = (mask[0].numel() / inputs).sqrt()
        ratio[~mask.flatten(1).any(1)] = 1.0
        weight = model.get_parameter(name)
        scales[name] = ratio.to(weight).view(-1, *[1] * (mask.dim() - 1))
    return scales


RULES: dict[str, Callable[[RescaledInit, nn.Module, Masks, Context], dict[str, Tensor]]] = {
    "gradinit": _gradinit,
    "fan-in": _fan_in,
    "gradient-flow": _gradient_flow,
}


def _masks(tweak: str, model: nn.Module, context: Context) -> dict[str, Tensor]:
    """Raises:
    RegrowError: a layer is sparse already.
    """
    masks: dict[str, Tensor] = {}
    for site in context.topology:
        name, _, part = site.partition("[")
        parameter, mask = model.get_parameter(name), context.topology.mask(site)
        if parameter.dim() != mask.dim():
            raise RegrowError(
                f"{tweak}: {site!r} belongs to a sparse layer, which has no second derivatives; rescale the plain "
                "model, before the layer is made sparse"
            )
        whole = masks.setdefault(name, torch.ones(parameter.shape, dtype=torch.bool))
        first = "qkv".index(part[0]) * len(mask) if part else 0  # a fused projection is three blocks of rows
        whole[first : first + len(mask)] = mask
    return {name: mask.to(model.get_parameter(name).device) for name, mask in masks.items()}
