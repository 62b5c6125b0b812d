"""TreeNet: members that share their first layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.train.models.members import Members
from regrow.train.models.mlp import mlp


class TreeNet(Members):
    """One trunk, M branches (Lee et al. 2015, arXiv:1511.06314).

    Args:
        make: a fresh network, each time it is called.
        members: M.
        shared: how many of its modules are the trunk.
    """

    def __init__(self, make: Callable[[], nn.Sequential], members: int, shared: int) -> None:
        super().__init__(members)
        first = make()
        if not 0 <= shared < len(first):
            raise RegrowError(f"shared={shared}: of a network of {len(first)} modules 0 to {len(first) - 1} are shared")
        self.trunk = first[:shared]
        self.branches = nn.ModuleList([first[shared:], *(make()[shared:] for _ in range(members - 1))])

    def logits(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        return torch.stack([branch(x) for branch in self.branches])


def treenet(
    shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (1024, 1024), members: int = 3, shared: int = 1
) -> TreeNet:
    """M multilayer perceptrons whose first `shared` hidden layers are one."""
    return TreeNet(lambda: mlp(shape, classes, hidden), members, 1 + 2 * shared)
