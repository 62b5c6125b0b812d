"""MIMO: one network with several inputs and as many outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from regrow.train.models.members import Members
from regrow.train.models.mlp import mlp


class MIMO(Members):
    """M inputs one behind the other, M outputs (Havasi et al. 2021, arXiv:2010.06610).

    In training the members see independent samples: each reads the batch in an order of its own (torch's generator),
    and its outputs return in the order of the batch, so that the loss and its targets need not know. In evaluation all
    see the same sample.

    Args:
        make: (shape, classes) -> the network that is wide enough for M inputs and outputs.
    """

    def __init__(
        self, make: Callable[[tuple[int, ...], int], nn.Module], shape: tuple[int, ...], classes: int, members: int
    ) -> None:
        super().__init__(members)
        self.network = make((members * shape[0], *shape[1:]), members * classes)

    def logits(self, x: Tensor) -> Tensor:
        order_of = torch.randperm if self.training and self.members > 1 else torch.arange
        orders = [order_of(len(x), device=x.device) for _ in range(self.members)]
        out: Tensor = self.network(torch.cat([x[order] for order in orders], 1))
        chunks = out.chunk(self.members, 1)
        return torch.stack([member[order.argsort()] for member, order in zip(chunks, orders, strict=True)])


def mimo(shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (1024, 1024), members: int = 3) -> MIMO:
    """A multilayer perceptron of M inputs and outputs."""
    return MIMO(lambda wide, outputs: mlp(wide, outputs, hidden), shape, classes, members)
