"""One predictor of an ensemble: a network, one of the networks in a network, or one stochastic pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regrow.core.rng import seed_of
from regrow.core.topology import Topology
from regrow.tickets.baselines import mc_dropout
from regrow.train.models.members import Members

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Member:
    """Inputs [B, ...] -> probabilities [B, C], where the inputs are; differentiable in them, unless it is a pass.

    `model` is there where the member is all of one.
    """

    name: str
    predict: Callable[[Tensor], Tensor]
    topology: Topology | None = None
    model: nn.Module | None = None

    @classmethod
    def of(cls, name: str, model: nn.Module, topology: Topology | None = None, logits: Logits | None = None) -> Member:
        """A model that returns logits, or the way to them; in eval mode, its weights never asked for gradients."""
        model = model.to(device()).eval().requires_grad_(False)
        ask = logits or model
        whole = model if logits is None else None
        return cls(name, lambda x: ask(x.to(device())).float().softmax(-1).to(x.device), topology, whole)


def members_of(name: str, model: nn.Module, topology: Topology | None, passes: int) -> tuple[Member, ...]:
    """The members that a trained model is: itself, those in it (TreeNet, BatchEnsemble, MIMO), or `passes` of it with
    dropout on.

    Raises:
        RegrowError: passes of a model without dropout, when it predicts.
    """
    if passes:
        return tuple(_stochastic(model, number) for number in range(passes))
    if isinstance(model, Members):
        return tuple(_inner(model, number) for number in range(model.members))
    return (Member.of(name, model, topology),)


def device() -> torch.device:
    """Where members compute."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _inner(model: Members, number: int) -> Member:
    return Member.of(str(number), model, logits=lambda x: model.logits(x)[number])


def _stochastic(model: nn.Module, number: int) -> Member:
    """The dropped units are a function of the pass and their place in the batch."""
    model = model.to(device())

    def predict(x: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed_of("mc dropout", number))
            return mc_dropout(model, x.to(device()), 1)[0].float().to(x.device)

    return Member(str(number), predict)
