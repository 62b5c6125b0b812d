"""Label smoothing that can fade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError, choose
from regrow.core.saliency import LossFn
from regrow.tweaks.base import Context, Fading

OVER = {"all": 0, "others": 1}
"""Classes, less how many, that share what the true one gives up."""


@dataclass(kw_only=True)
class LabelSmoothing(Fading):
    """The true class gives up a share e of its label (Szegedy et al. 2016, arXiv:1512.00567, eq. 7).

    ========  ===========================  ===================  ====================================================
    over      true class                   each other           who
    ========  ===========================  ===================  ====================================================
    others    1 - e                        e / (K - 1)          ToST's code (Jaiswal et al. 2022, arXiv:2206.12755)
    all       1 - e + e / K                e / K                Szegedy et al., torch's `label_smoothing`
    ========  ===========================  ===================  ====================================================

    e over the others is e K / (K - 1) over all. The loss must take class probabilities, as cross-entropy does. It acts
    on the loss made by `sparsifier.loss(loss_fn)` alone; a loss that is reported is better left plain.

    Args:
        start, stop: e at first and at last, in [0, 1); stop=0 fades it.
        over: "others" or "all".
    """

    start: float = 0.1
    stop: float = 0.1
    until: float = 1.0
    over: str = "others"

    on_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(OVER, self.over, "classes to smooth over")
        if not (0.0 <= self.start < 1.0 and 0.0 <= self.stop < 1.0):
            raise RegrowError(f"{self.name}: start={self.start:g}, stop={self.stop:g}: the share is in [0, 1)")

    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        return {}

    def loss(self, loss_fn: LossFn, progress: float) -> LossFn:
        share = self.strength(progress)
        if share == 0.0:
            return loss_fn
        return lambda outputs, targets: loss_fn(outputs, self.smoothed(targets, outputs, share))

    def smoothed(self, targets: Tensor, outputs: Tensor, share: float) -> Tensor:
        """Class probabilities [N, K] of class indices [N], like `outputs` [..., N, K].

        Raises:
            RegrowError: the targets are no class indices, or the outputs no row of logits for each.
        """
        classes = outputs.shape[-1]
        if targets.is_floating_point() or outputs.shape[-1 - targets.dim() : -1] != targets.shape or classes < 2:
            raise RegrowError(
                f"{self.name} needs class indices [N] for outputs [N, K], but was given {targets.dtype} "
                f"{tuple(targets.shape)} for {tuple(outputs.shape)}; drop the tweak, or smooth in the loss itself"
            )
        each = share / (classes - OVER[self.over])
        labels = torch.full((*targets.shape, classes), each, dtype=outputs.dtype, device=outputs.device)
        true = 1.0 - share + (each if self.over == "all" else 0.0)
        return labels.scatter_(-1, targets.unsqueeze(-1), true)
