"""Distillation: one network learns what an ensemble knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrow.core.errors import RegrowError

Loss = Callable[[Tensor, Tensor], Tensor]


def divergence(outputs: Tensor, probabilities: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(p^(1/T) / sum p^(1/T) || softmax(z / T)), the mean over the batch.

    Hinton et al. 2015, arXiv:1503.02531, for a teacher that gives probabilities: p^(1/T) is softmax of its logits / T.

    Args:
        outputs: the student's logits z, [B, C].
        probabilities: the teacher's p, [B, C].
        temperature: T > 0.
    """
    soft = (probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log() / temperature).softmax(-1)
    entropy = torch.special.entr(soft).sum(-1).mean()
    apart: Tensor = cross_entropy(outputs / temperature, soft) - entropy
    return temperature**2 * apart


@dataclass(frozen=True)
class Distillation:
    """The loss of a student: share x divergence from the teacher + (1 - share) x its loss by the labels.

    loss = distillation.loss(x)(student(x), y)

    Args:
        teacher: inputs -> probabilities [B, C]; an `Ensemble` is one.
        temperature: T > 0.
        share: of the teacher, in [0, 1].
        digest: tells the teacher from every other, for checkpoints.
    """

    teacher: Callable[[Tensor], Tensor]
    temperature: float = 1.0
    share: float = 1.0
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.temperature > 0.0 or not 0.0 <= self.share <= 1.0:
            raise RegrowError(
                f"temperature={self.temperature:g}, share={self.share:g}: the first is above 0, the other in [0, 1]"
            )

    def to(self, device: torch.device) -> Distillation:
        """The same, its teacher on this device if it is a module."""
        if isinstance(self.teacher, nn.Module):
            self.teacher.to(device)
        return self

    def loss(self, inputs: Tensor, labelled: Loss = cross_entropy) -> Loss:
        """(outputs, labels) -> the mean loss on these inputs, which the teacher judges now.

        Args:
            labelled: (outputs, labels) -> mean loss by the labels.
        """
        with torch.no_grad():
            known = self.teacher(inputs)

        def value(outputs: Tensor, labels: Tensor) -> Tensor:
            taught = divergence(outputs, known, self.temperature)
            return self.share * taught + (1.0 - self.share) * labelled(outputs, labels)

        return value
