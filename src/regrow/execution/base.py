"""Backend: how a topology is executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core.patterns import Pattern
from regrow.core.site import Site
from regrow.core.topology import Topology


class Backend(Protocol):
    """Puts a model on a topology, shows a method its sites, moves the model to the topology the method proposes.

    Laws: `sites` shows exact values; `commit` keeps the survivors' values and optimizer state, births start at zero
    with the state a fresh optimizer would hold; `project` is idempotent; every backend decides alike.
    """

    topology: Topology

    @property
    def note(self) -> str:
        """What a user should know of its speed, in a sentence."""

    def attach(self, model: nn.Module, topology: Topology, optimizer: Optimizer | None = None) -> None:
        """Put the model on the topology; without an optimizer for inference."""

    def host(self, module: nn.Module) -> None:
        """A module has come into the model, for a while: run it as those around it."""

    def expect(self, needs: frozenset[str], births: Mapping[str, int]) -> None:
        """Before the backward pass whose signals will be read: leave these behind."""

    @property
    def ready(self) -> bool:
        """Has a backward pass left everything that was expected?"""

    def sites(self, pattern: Pattern) -> dict[str, Site]:
        """Every site, with the signals that `expect` named."""

    def mask_grads(self) -> None:
        """Clear gradients outside the topology (they are, but for `autograd.grad` and gradients assigned by hand)."""

    def commit(self, topology: Topology, reborn: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        """Move to a new topology: the positions, by site, that did not exist before, for a moment. What is dropped and
        grown at once keeps value and state, unless in `reborn`."""

    def project(self) -> None:
        """Re-impose the topology on the weights."""

    def settle(self) -> None:
        """After a successful optimizer step: take in what its backward pass left (dense momentum)."""

    def buffers(self) -> dict[str, Tensor]:
        """What must be checkpointed besides model, optimizer and topology."""

    def restore(self, topology: Topology, buffers: Mapping[str, Tensor]) -> None:
        """Adopt the topology of a checkpoint whose model and optimizer the caller loads."""

    def detach(self) -> None:
        """Leave a plain model with exact zeros."""
