"""A recipe as the run it would be: steps, updates, how many weights each layer has, what that costs in FLOPs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from regrow.core.distributions import DISTRIBUTIONS, Distribution, Overrides, counts
from regrow.core.errors import RegrowError
from regrow.core.site import Clock
from regrow.core.topology import Topology
from regrow.lab.plan import pruned
from regrow.lab.plan.net import Net, net_of
from regrow.lab.plan.pruned import Densities, Pruned
from regrow.lab.plan.sizes import Sizes, sizes_of, word_of
from regrow.methods.base import Method
from regrow.methods.gmp import GMP
from regrow.methods.granet import GraNet
from regrow.methods.pruning import scheduled
from regrow.methods.snfs import SNFS
from regrow.metrics.flops import Ledger, forward_flops, run_flops
from regrow.recipe.build import method_of
from regrow.recipe.check import check
from regrow.recipe.optim import plan_of
from regrow.recipe.schema import Recipe
from regrow.recipe.start import MASK, StartSpec, mask_of
from regrow.recipe.teacher import answer_of, with_teacher
from regrow.recipe.tweaks import with_ghosts
from regrow.sparsifier.start import start_topology
from regrow.sparsifier.timetable import Period, Timetable, WholeRun, check_horizon
from regrow.tickets.plan import Plan, capture_steps
from regrow.train.data.base import count_steps
from regrow.tweaks import is_ghost


@dataclass(frozen=True)
class Move:
    """One update of the topology: after which step, and the share of the weights that it replaces."""

    step: int
    fraction: float


@dataclass(frozen=True)
class Draft:
    """One run, not begun.

    Args:
        exponent: of what one threshold leaves each layer (`pruned.left`); None for the middle of what was measured.
    """

    recipe: Recipe
    sizes: Sizes
    net: Net
    method: Method | None
    exponent: float | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Draft:
        """Raises:
        RegrowError: what would be refused when it is run, as far as shapes show it.
        """
        check(recipe)
        sizes = sizes_of(recipe.data)
        return cls(recipe, sizes, net_of(recipe, sizes), None).with_recipe(recipe)

    def with_recipe(self, recipe: Recipe) -> Draft:
        """The same model and data under another recipe."""
        method = method_of(recipe.method) if recipe.method else None
        draft = replace(self, recipe=recipe, method=method)
        if method:
            check_horizon(method, draft.plan, 0 if draft.plan else draft.steps)
            draft.first  # noqa: B018  # or refused
        return draft

    @cached_property
    def steps_per_epoch(self) -> int:
        return count_steps(self.sizes.train, self.recipe.batch_size)

    @cached_property
    def steps(self) -> int:
        return self.recipe.total_epochs * self.steps_per_epoch

    @cached_property
    def plan(self) -> Plan:
        return plan_of(self.recipe, self.steps_per_epoch)

    @cached_property
    def timetable(self) -> Timetable[Period]:
        return Timetable(self.plan or [WholeRun(self.steps)])

    @cached_property
    def tickets(self) -> tuple[int, ...]:
        """After which step each is taken."""
        return capture_steps(self.plan)

    @cached_property
    def moves(self) -> list[Move]:
        """Every update of the topology, explorations among them."""
        method, done, found = self.method, 0, []
        for period in self.timetable.periods if method and method.every else ():
            assert method is not None
            every = method.every
            assert every is not None
            due = {s for s in range(every.interval, period.steps + 1, every.interval) if every.due(s, period.steps)}
            own = due if period.evolve else set()
            fraction = period.fraction or getattr(method, "fraction", None)
            for step in sorted(own | {1} if period.explore else own):
                exploring = period.explore and step == 1
                share = fraction(every.progress(step, period.steps)) if fraction else 0.0
                found.append(Move(done + step, period.explore if exploring else share))
            done += period.steps
        return found

    @cached_property
    def first(self) -> Densities:
        """Of each site, as the run starts: whole numbers of weights."""
        if self.method is None:
            return {}
        return self._spread(self.method.initial_density(self.recipe.density))

    @cached_property
    def final(self) -> Densities:
        """As it ends."""
        return self._left(self.recipe.density or 1.0) if self._prunes else self.first

    @cached_property
    def mean(self) -> Densities:
        """The mean over its steps, which its FLOPs depend on."""
        if not self._prunes:
            return self.first
        since, held = 0, self.first
        sums, density = dict.fromkeys(held, 0.0), 1.0
        for step in (move.step for move in self.moves):
            if (after := self._pruned_to(step)) < density:
                sums = {name: total + held[name] * (step - since) for name, total in sums.items()}
                since, held, density = step, self._left(after), after
        return {name: (total + held[name] * (self.steps - since)) / self.steps for name, total in sums.items()}

    @property
    def rests_on(self) -> tuple[Pruned, ...]:
        """The measured runs that say which layers keep their weights, of a run that prunes by one threshold."""
        return pruned.alike(word_of(self.recipe.data.name)) if self._prunes else ()

    @property
    def ends(self) -> tuple[Draft, Draft]:
        """With the fewest training FLOPs that those runs leave possible, and with the most; else twice this one."""
        exponents = sorted({run.exponent for run in self.rests_on})
        found = [replace(self, exponent=exponent) for exponent in (exponents[0], exponents[-1])] if exponents else []
        low, high = sorted(found, key=lambda draft: draft.flops()["training"]) or (self, self)
        return low, high

    @property
    def unsure(self) -> str:
        """Why the densities of single layers are no more than likely, or nothing."""
        start = self.recipe.topology
        if self._prunes:
            return "which layers keep their weights is decided in training, by one threshold over all"
        if isinstance(self.method, SNFS) and self.method.redistribute:
            return "which layers have how many weights is decided in training; here they keep their first numbers"
        if self.method and start.name not in (*DISTRIBUTIONS, MASK) and "layers" not in start.options:
            return f"which layers keep their weights is decided by {start.name}; spread by erk here"
        return ""

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(
            steps=self.steps,
            batch_size=self.recipe.batch_size,
            updates=self.timetable.updates(self.method.every) if self.method else 0,
            needs=self.method.needs if self.method else frozenset(),
        )

    def flops(self) -> dict[str, float]:
        """As the run's result will have them."""
        counted = run_flops(
            self.dense_flops,
            self.mean,
            self.ledger,
            final=self.final,
            sparse=self.first if self.recipe.backend == "sparse" else (),
            reference_steps=self.recipe.compared_epochs * self.steps_per_epoch,
        )
        haunted = math.ceil(self.net.haunted * self.timetable.periods[0].steps)
        counted = with_ghosts(counted, self.net.flops, self.recipe.batch_size * haunted)
        return with_teacher(counted, self.answer, self.ledger.samples) if self.answer else counted

    @cached_property
    def answer(self) -> dict[str, float] | None:
        """The FLOPs of its teacher's answer to one sample; None without one, and while its runs have not finished."""
        try:
            return answer_of(self.recipe.distill, self.recipe.seeds[0]) if self.recipe.distill else None
        except RegrowError:
            return None

    @cached_property
    def dense_flops(self) -> dict[str, int]:
        """Of one sample's forward pass by weight, as if nothing were sparse."""
        return {name: flops for name, flops in self.net.flops.items() if not is_ghost(name)}

    @property
    def forward_share(self) -> float:
        """FLOPs of a forward pass over the run, of the dense one's."""
        return forward_flops(self.dense_flops, self.mean) / forward_flops(self.dense_flops, {})

    @property
    def _prunes(self) -> bool:
        return isinstance(self.method, GMP | GraNet)

    def _pruned_to(self, step: int) -> float:
        """What the update at this step leaves of a run that prunes."""
        method = self.method
        assert isinstance(method, GMP | GraNet)
        assert method.every is not None
        window = method.every if isinstance(method, GMP) else replace(method.every, end=method.until)
        period, own = self.timetable.at(step)
        return scheduled(Clock(own, period.steps, 0.0, self.recipe.density), window, method.initial)

    def _left(self, density: float) -> Densities:
        """Once a threshold over all layers has left this share of their weights."""
        exponents = [run.exponent for run in self.rests_on]
        middle = (min(exponents) + max(exponents)) / 2
        return pruned.left(self.net.shapes, self.first, density, middle if self.exponent is None else self.exponent)

    def _spread(self, density: float | None) -> Densities:
        """A density over the sites, in whole numbers of weights."""
        shapes, start = self.net.shapes, self.recipe.topology
        if start.name == MASK:
            return self._masked(start, density).densities()
        assert density is not None
        distribution = _distribution(start)
        if self.recipe.overrides:
            distribution = Overrides(distribution, self.recipe.overrides)
        whole = counts(shapes, distribution(shapes, density))
        return {name: whole[name] / part.numel for name, part in self.net.parts.items()}

    def _masked(self, start: StartSpec, density: float | None) -> Topology:
        given = mask_of(start, self.recipe.seeds[0])
        return start_topology(self.net.model, self.net.parts, given, density, self.recipe.overrides or None, 0)


def _distribution(start: StartSpec) -> Distribution:
    """What spreads the weights over layers; where scores alone would, what is most alike."""
    if start.name in DISTRIBUTIONS:
        return DISTRIBUTIONS[start.name](**start.options)
    return DISTRIBUTIONS[start.options.get("layers", "erk")]()
