"""Models of several members: each is trained by its own loss, together they give one prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import log

from torch import Tensor, nn

from regrow.core.errors import RegrowError

LossFn = Callable[[Tensor, Tensor], Tensor]


class Members(nn.Module, ABC):
    """In training the members' logits [M, B, C]; in evaluation the logarithm of their mean probability, [B, C].

    Args:
        members: M >= 1.
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        if members < 1:
            raise RegrowError(f"members={members}: an ensemble has at least one")
        self.members = members

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor:
        """Each member's, [M, B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        return logits if self.training else logits.log_softmax(-1).logsumexp(0) - log(self.members)


def each(loss: LossFn) -> LossFn:
    """A mean loss of [B, C], made the mean over members of [M, B, C]; the targets are the same for all."""

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.dim() == 3:
            targets = targets.repeat(len(outputs), *[1] * (targets.dim() - 1))
            outputs = outputs.flatten(0, 1)
        return loss(outputs, targets)

    return mean
