"""Adversarial inputs within an L-infinity ball, against anything differentiable from pixels to probabilities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.metrics.probabilities import TINY

Predict = Callable[[Tensor], Tensor]
"""Pixels in [0, 1], [B, ...] -> probabilities [B, C]. Normalisation belongs inside, and so does the mean over members:
an ensemble is attacked as a whole, and eps is in pixels (8/255) whatever the model is given."""

Attack = Callable[[Predict, Tensor, Tensor], Tensor]


def fgsm(predict: Predict, x: Tensor, labels: Tensor, eps: float = 8 / 255) -> Tensor:
    """x' = clip(x + eps sign(grad_x NLL)), [B, ...] in [0, 1] (Goodfellow et al. 2015, arXiv:1412.6572)."""
    _check(x, eps)
    return (x + eps * _direction(predict, x, labels)).clamp_(0, 1)


def pgd(
    predict: Predict,
    x: Tensor,
    labels: Tensor,
    eps: float = 8 / 255,
    steps: int = 10,
    step: float = 2 / 255,
    seed: int = 0,
) -> Tensor:
    """FGSM in `steps` of size `step` from a random point, projected on the ball (Madry et al. 2018, arXiv:1706.06083).

    The start is a function of `seed` and the shape of x alone.
    """
    _check(x, eps)
    start = torch.rand(x.shape, generator=generator("pgd", seed)).to(x) * 2 - 1
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    at = (x + eps * start).clamp_(0, 1)
    for _ in range(steps):
        at = (at + step * _direction(predict, at, labels)).clamp_(low, high)
    return at


def attacks(eps: float = 8 / 255) -> dict[str, Attack]:
    """The attacks of `regrow evaluate`, of one radius."""
    return {"fgsm": partial(fgsm, eps=eps), "pgd": partial(pgd, eps=eps, step=eps / 4)}


def _direction(predict: Predict, x: Tensor, labels: Tensor) -> Tensor:
    """sign(grad_x NLL); no parameter's `grad` is touched."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        right = predict(x).gather(1, labels[:, None])
        if not right.requires_grad:
            raise RegrowError("what is attacked has no gradient in its inputs, as MC-dropout's passes: leave it out")
        (gradient,) = torch.autograd.grad(-right.clamp_min(TINY).log().sum(), x)
    return gradient.sign()


def _check(x: Tensor, eps: float) -> None:
    if eps < 0:
        raise RegrowError(f"eps = {eps}: give the radius of the attack as a share of the pixel range, such as 8/255")
    if float(x.min()) < 0 or float(x.max()) > 1:
        raise RegrowError(
            f"pixels are in [{float(x.min()):.3g}, {float(x.max()):.3g}] and should be in [0, 1]: put the "
            "normalisation into `predict`"
        )
