"""Sparsifier: rides on an optimizer's hooks and keeps a model on its evolving topology."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from regrow.core import rng
from regrow.core.errors import RegrowError, choose
from regrow.core.explored import Explored
from regrow.core.patterns import UNSTRUCTURED, Pattern
from regrow.core.saliency import LossFn
from regrow.core.site import Site
from regrow.core.topology import Topology
from regrow.execution import TRAINING
from regrow.execution.auto import stored, take_up
from regrow.execution.parts import survey
from regrow.execution.refuse import refuse_quantised, refuse_signals, step_was_skipped, unwrap_model, unwrap_optimizer
from regrow.methods.base import Method, describe
from regrow.sparsifier.closure import run_closure
from regrow.sparsifier.ranks import check_ranks
from regrow.sparsifier.saved import Saved
from regrow.sparsifier.start import Start, called, keeps, parts_of, start_topology, warn_if_trained
from regrow.sparsifier.strangers import refuse_strangers
from regrow.sparsifier.summary import summarise
from regrow.sparsifier.tally import Tally
from regrow.sparsifier.timetable import Agenda, Period, Timetable, WholeRun, check_horizon
from regrow.sparsifier.unharmed import unharmed
from regrow.tweaks.life import Tweaks

_GUARD = 16
"""Steps between projections. Masked gradients alone keep the zeros; projecting undoes writes from outside (an
initialisation or a dense state_dict loaded after `sparsify`) without paying for it on every step."""


class Sparsifier:
    """A method on an optimizer: masking, drop-and-grow and exploration tracking ride on `optimizer.step()`.

    Args:
        method: decides the topology.
        density: share of weights kept, in (0, 1]; None only with a `Topology` as start.
        total_steps: optimizer steps in the whole run, the horizon of the schedules; or give a `plan`.
        plan: the run's periods, each a horizon of its own, which may explore at their start and hold the topology.
        topology: the start: "erk", "er", "uniform", a distribution, "magnitude", a `Scored`, "built", or a Topology.
        overrides: densities by name pattern; the other layers pay for them.
        include, exclude: patterns for the parameters that are sparse.
        pattern: which supports are legal.
        seed: all randomness is a function of (seed, step, site name).
        backend: how the topology is executed: "masked", "sparse", or "auto", which measures what is faster.
        tweaks: what else is changed in training (ToST); of a plan, in its first period.
    """

    def __init__(
        self,
        method: Method,
        density: float | None = None,
        total_steps: int = 0,
        *,
        plan: Sequence[Period] = (),
        topology: Start = "erk",
        overrides: Mapping[str, float] | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        pattern: Pattern = UNSTRUCTURED,
        seed: int = 0,
        backend: str = "masked",
        tweaks: Tweaks | None = None,
    ) -> None:
        self.method, self.pattern, self.seed = method, pattern, seed
        self.plan = tuple(plan)
        self.timetable: Timetable[Period] = Timetable(self.plan or [WholeRun(total_steps)])
        self._agenda = Agenda(method, self.timetable, density)
        self.backend_name, self.backend = backend, choose(TRAINING, backend, "backend")()
        self._start, self._density, self._overrides = called(topology), density, overrides
        self._include, self._exclude = include, exclude
        self.tweaks = tweaks or Tweaks()
        self.step = 0
        self.last_update: dict[str, int] | None = None
        self._exploration: float | None = None
        self._hooks: list[RemovableHandle] = []
        check_horizon(method, self.plan, total_steps)

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Sparsifier:
        """Put the model on its first topology and ride on the optimizer from its next step.

        Raises:
            RegrowError: a setup that cannot work; or it holds a model already.
        """
        if self._hooks:
            raise RegrowError("this sparsifier holds a model already; finalize() it first, or make another one")
        self.model, self.optimizer = unwrap_model(model), unwrap_optimizer(optimizer)
        refuse_quantised(self.model)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.verdicts = survey(self.model, self._include, self._exclude, trained)
        self._parts = parts_of(self.model, self.verdicts)
        refuse_signals(self.method.needs, [part.parameter for part in self._parts.values()], self.optimizer)
        density = self.method.initial_density(self._density)
        first = start_topology(self.model, self._parts, self._start, density, self._overrides, self.seed)
        if not keeps(self._start):
            warn_if_trained(self.model, self.optimizer)
        with unharmed(self.model, self.optimizer, self.tweaks):
            self.tweaks.prepare(self.model, first, self.seed, self.backend.host)
            self.backend.attach(self.model, first, self.optimizer)
            try:
                self._begin()
            except RegrowError:
                self.backend.detach()  # let go of the model, so that it can be tried otherwise
                raise
        self._hooks = [
            *refuse_strangers(self.optimizer, {name: part.parameter for name, part in self._parts.items()}),
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        return self

    def _begin(self) -> None:
        check_ranks(self.topology, self.step)
        self._explored, self._tally = Explored(self.topology), Tally(self.topology)
        self._begin_period()
        self._expect()
        self.tweaks.attach(self.optimizer, self.timetable.periods[0].steps)

    @property
    def topology(self) -> Topology:
        """Which weights exist now."""
        return self.backend.topology

    @property
    def total_steps(self) -> int:
        """Optimizer steps in the whole run, as planned; 0 if nobody said."""
        return self.timetable.total_steps

    @property
    def density(self) -> float:
        """Share of the sites' weights that exist now."""
        return self.topology.density

    @property
    def decision(self) -> dict[str, Any] | None:
        """What `backend="auto"` has decided, and the seconds that speak for it."""
        return stored(self.backend)

    @property
    def exploration_rate(self) -> float:
        """R_s, the share of weights ever active (Liu et al. 2021, arXiv:2102.02887)."""
        return self._explored.density

    def mean_densities(self) -> dict[str, float]:
        """Site -> its density, the mean over the steps so far."""
        return self._tally.densities(self.topology, self.step)

    @property
    def explored(self) -> Topology:
        """Which weights have ever existed."""
        return self._explored.topology

    def explore(self, fraction: float) -> None:
        """Arm one extra update of this drop fraction, done at the next successful step that can supply its signals."""
        self._exploration = self._agenda.exploration(fraction)
        self._expect()

    def mask_grads(self) -> None:
        """Clear gradients outside the topology that hooks did not see: `autograd.grad`, gradients assigned by hand."""
        self.backend.mask_grads()

    def loss(self, loss_fn: LossFn) -> LossFn:
        """The loss to train by: `loss_fn`, changed by the tweaks that live at the step in which it is called."""
        return self.tweaks.loss(loss_fn)

    def summary(self) -> str:
        """Per layer what is sparse and why, and what the backend does for speed."""
        return summarise(self)

    def finalize(self) -> nn.Module:
        """Let go of model and optimizer; the model is plain, with exact zeros outside the topology."""
        if self._hooks:  # once: what is done to the model later is not ours
            while self._hooks:
                self._hooks.pop().remove()
            self.tweaks.detach()
            self.backend.detach()
        return self.model

    def frozen_copy(self) -> nn.Module:
        """A plain copy of the model as it is now, as `copy.deepcopy` makes it: to keep, not to train sparsely."""
        return copy.deepcopy(self.model).requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides model and optimizer; no random state, since none exists."""
        return {
            "step": self.step,
            "setup": self._setup(self.step),
            "topology": self.topology.pack(),
            "explored": self.explored.pack(),
            "buffers": self.backend.buffers(),
            "decision": self.decision,
            "exploration": self._exploration,
            "weight_steps": self._tally.count(self.topology, self.step),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a run; load model and optimizer too (after it, to go back to a step at which tweaks still lived).

        Raises:
            RegrowError: the state is damaged, or belongs to another setup.
        """
        saved = Saved.of(state)
        saved.check(self._setup(saved.step), self.topology.shapes)
        self.step, self._exploration = saved.step, saved.exploration
        take_up(self.backend, saved.decision)
        self.backend.restore(saved.topology, saved.buffers)
        self._explored, self._tally = Explored(saved.explored), saved.tally
        self.tweaks.at(self.step)
        self._begin_period()  # a plan may have grown since
        self._expect()

    def _setup(self, step: int) -> dict[str, Any]:
        """What the first `step` steps depend on: of a plan, what they have entered, so that it can be extended."""
        length = {"plan": self.timetable.past(step)} if self.plan else {"total_steps": self.total_steps}
        tweaks = {"tweaks": words} if (words := self.tweaks.words()) else {}
        return {"method": describe(self.method), "density": self._density, **length, "seed": self.seed, **tweaks}

    def _begin_period(self) -> None:
        """Arm the exploration of the period that begins with the coming step."""
        period = self.timetable.beginning(self.step)
        if period is not None and period.explore:
            self._exploration = period.explore

    def _due(self, step: int) -> bool:
        return self._exploration is not None or self._agenda.due(step)

    def _fraction(self, step: int) -> float | None:
        """The share to replace where it is not the method's own."""
        return self._agenda.fraction(step) if self._exploration is None else self._exploration

    def _moving(self) -> dict[str, Site]:
        """The sites that are trained: a weight frozen since `sparsify` stays as it is."""
        sites = self.backend.sites(self.pattern).items()
        return {name: site for name, site in sites if self._parts[name].parameter.requires_grad}

    def _expect(self) -> None:
        """Tell the backend what the coming step must leave behind."""
        coming = self.step + 1
        if self._due(coming):
            self.backend.expect(frozenset(), {})
            births = self.method.births(self._moving(), self._agenda.clock(coming), self._fraction(coming))
            self.backend.expect(self.method.needs, births)
        else:
            self.backend.expect(self.method.needs & {"dense_moment"}, {})

    @_disable_dynamo  # a compiled step breaks its graph here, and traces nothing of ours
    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        given = run_closure(args, kwargs)
        due = self.method.replaces_step and self._due(self.step + 1) and not step_was_skipped(optimizer)
        if due and self._update(self.step + 1):
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                parameter.grad = None
        return given

    @_disable_dynamo
    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if step_was_skipped(optimizer):
            return
        self.step += 1
        if self.step % _GUARD == 1:
            self.backend.project()
        self.backend.settle()
        if self._due(self.step) and not self.method.replaces_step:
            self._update(self.step)
        self.tweaks.after(self.step)
        self._begin_period()
        self._expect()

    def _update(self, step: int) -> bool:
        """One topology update, if the backward pass has left what it needs; else an exploration waits for the next."""
        if not self.backend.ready:
            return False
        old = self.topology
        sites = ((name, self._equipped(site, step)) for name, site in self._moving().items())  # let go of by the commit
        new = old.replaced(self.method.update(dict(sites), self._agenda.clock(step), self._fraction(step)))
        self._tally.count(old, step)
        born = self.backend.commit(new)
        self._explored.add(born)
        self._exploration = None
        self.last_update = {"step": step, "grown": sum(at.numel() for at in born.values()), "nnz": new.nnz}
        check_ranks(self.topology, self.step)
        return True

    def _equipped(self, site: Site, step: int) -> Site:
        """The backend's site, with what only the shell knows."""
        explored = self._explored.index(site.name).to(site.index.device) if "explored" in self.method.needs else None
        return dataclasses.replace(site, generator=rng.generator(self.seed, step, site.name), explored=explored)
