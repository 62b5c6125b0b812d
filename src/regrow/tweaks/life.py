"""The tweaks of one run: when each begins and ends, and its ghosts on the optimizer meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from regrow.core.errors import RegrowError
from regrow.core.saliency import Batch, LossFn
from regrow.core.topology import Topology
from regrow.tweaks import build
from regrow.tweaks.base import GHOST, Context, Tweak, describe


class Tweaks:
    """What is done to a model besides its topology; at each step a function of the progress alone."""

    def __init__(
        self, tweaks: Sequence[str | Tweak] = (), batches: Iterable[Batch] | None = None, loss: LossFn | None = None
    ) -> None:
        given = [build(tweak) if isinstance(tweak, str) else tweak for tweak in tweaks]
        self._all: list[Tweak] = [replace(tweak) for tweak in given]  # type: ignore[type-var]
        names = [tweak.name for tweak in self._all]
        if twice := [name for name in names if names.count(name) > 1]:
            raise RegrowError(f"tweaks: {twice[0]!r} is there twice; give it once")
        self._batches, self._loss = batches, loss
        self._ghosts: dict[str, Mapping[str, nn.Parameter]] = {}  # of those that live
        self.progress, self._asked = 0.0, False

    def prepare(self, model: nn.Module, topology: Topology, seed: int, host: Callable[[nn.Module], None]) -> None:
        """On the plain model, before a backend attaches: what acts before training alone. `host`: of `Context`."""
        if not self._all:
            return  # and keep no topology alive
        self._model, self._context = model, Context(topology, seed, self._batches, self._loss, host)
        for tweak in self._all:
            if tweak.until == 0.0:
                tweak.attach(model, self._context)

    def attach(self, optimizer: Optimizer, horizon: int) -> None:
        """After that: what lives for a share of `horizon` steps.

        Raises:
            RegrowError: something finds nothing to act on; none is attached then.
        """
        lasting = [tweak.name for tweak in self._all if tweak.until]
        if lasting and horizon < 1:
            raise RegrowError(f"{lasting[0]} lives for a share of the run: sparsify needs total_steps=...")
        self._optimizer, self._horizon = optimizer, horizon
        self._hooks = [optimizer.register_load_state_dict_pre_hook(self._fit)] if lasting else []
        try:
            self.at(0)
        except RegrowError:
            self.detach()
            raise

    def at(self, step: int) -> None:
        """So many steps are done: who lives in the next lives, who does not is gone."""
        if self._all:
            self._move(min(step / self._horizon, 1.0) if self._horizon else 1.0)

    def after(self, step: int) -> None:
        """A step was taken, so many are done.

        Raises:
            RegrowError: a tweak of the loss had no part in it.
        """
        idle = [tweak.name for tweak in self._all if tweak.on_loss and tweak.name in self._ghosts]
        if idle and not self._asked:
            raise RegrowError(f"{idle[0]} does nothing: train by loss = sparsifier.loss(loss_fn), not by loss_fn")
        self.at(step)

    def detach(self) -> None:
        """All are gone."""
        self._move(1.0)
        for hook in self._hooks:
            hook.remove()

    def _move(self, progress: float) -> None:
        self.progress = progress
        for tweak in self._all:
            if progress < tweak.until:
                if tweak.name not in self._ghosts:
                    self._begin(tweak)
                tweak.at(progress)
            elif tweak.name in self._ghosts:
                self._end(tweak)

    def loss(self, loss_fn: LossFn) -> LossFn:
        """The loss to train by, at each call that of the step it is called in."""
        self._asked = True

        def tweaked(outputs: Tensor, targets: Tensor) -> Tensor:
            current = loss_fn
            for tweak in self._all:
                if tweak.name in self._ghosts:
                    current = tweak.loss(current, self.progress)
            return current(outputs, targets)

        return tweaked if self._all else loss_fn

    def check_plain(self) -> None:
        """Raises:
        RegrowError: the model is not the plain one yet.
        """
        if there := [tweak for tweak in self._all if tweak.name in self._ghosts and not tweak.on_loss]:
            raise RegrowError(
                f"{there[0].name} still changes the model, at {self.progress:.0%} of the run (of a plan: of its first "
                f"phase), and is gone after {there[0].until:.0%}: wait, or end it earlier by until=..."
            )

    def words(self) -> list[str]:
        """Each with its hyper-parameters: what tells a run from one with other tweaks."""
        return [describe(tweak) for tweak in self._all]

    @property
    def ghost_steps(self) -> int:
        """How many steps are taken with ghost parameters."""
        lives = [tweak.until for tweak in self._all if self._ghosts.get(tweak.name)]
        return math.ceil(max(lives, default=0.0) * self._horizon)

    def notes(self) -> list[str]:
        """Each with what it costs, while it does."""
        return [f"{describe(tweak)}: {tweak.note() or self._state(tweak)}" for tweak in self._all]

    def _state(self, tweak: Tweak) -> str:
        if tweak.until == 0.0:
            return "done before training; nothing is left of it at inference"
        return "at work" if tweak.name in self._ghosts else "gone; nothing is left of it"

    def _begin(self, tweak: Tweak) -> None:
        ghosts = tweak.attach(self._model, self._context)
        if ghosts and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            tweak.detach()
            raise RegrowError(
                f"{tweak.name}: its parameters come and go, which DistributedDataParallel cannot follow; train it in "
                "one process"
            )
        for name, ghost in ghosts.items():
            self._group(name)["params"].append(ghost)
        self._ghosts[tweak.name] = ghosts

    def _end(self, tweak: Tweak) -> None:
        ghosts = {id(ghost) for ghost in self._ghosts.pop(tweak.name).values()}
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if id(parameter) in ghosts:
                    self._optimizer.state.pop(parameter, None)
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ghosts]
        tweak.detach()

    def _group(self, ghost: str) -> dict[str, Any]:
        """That of the weight it is beside: the hyper-parameters are the same."""
        owner = ghost.split(".")[: ghost.split(".").index(GHOST)]
        weight = self._model.get_parameter(".".join([*owner, "weight"]))
        return next(g for g in self._optimizer.param_groups if any(p is weight for p in g["params"]))

    def _fit(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """A state with as many parameters as there are without ghosts is from after their time."""
        ghosts = {id(ghost) for mine in self._ghosts.values() for ghost in mine.values()}
        left = [sum(id(p) not in ghosts for p in group["params"]) for group in optimizer.param_groups]
        if ghosts and left == [len(group["params"]) for group in state["param_groups"]]:
            for tweak in self._all:
                if self._ghosts.get(tweak.name):
                    self._end(tweak)
