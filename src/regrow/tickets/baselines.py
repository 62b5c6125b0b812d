"""Ensembles that are no tickets, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError


@torch.no_grad()
def mc_dropout(model: nn.Module, x: Tensor, passes: int) -> Tensor:
    """Probabilities of `passes` stochastic passes, [T, B, C]: dropout is on, all else as in evaluation.

    Gal & Ghahramani 2016, arXiv:1506.02142. Draws from torch's global generator. The model is left as it was.

    Raises:
        RegrowError: no passes, or a model without dropout, whose passes would all be one.
    """
    dropouts = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
    if passes < 1 or not dropouts:
        raise RegrowError(
            f"{type(model).__name__} has {len(dropouts)} dropout layers and is to make {passes} passes: MC-dropout "
            "needs at least one of each; build the model with dropout, as mlp or wrn with dropout=0.1"
        )
    were = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for dropout in dropouts:
            dropout.training = True
        return torch.stack([model(x).softmax(-1) for _ in range(passes)])
    finally:
        for module, training in were.items():
            module.training = training
