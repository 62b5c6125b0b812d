"""The `plan` and `superpose` blocks of a recipe. Lengths are epochs, learning rates are those of the optimizer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, model_validator

from regrow.core import schedules
from regrow.core.schedules import Schedule
from regrow.recipe.spec import Spec, named
from regrow.tickets import plan as plans
from regrow.tickets.basin import Evaluate, GreedySoup, Guarded
from regrow.tickets.plan import Plan
from regrow.tickets.superpose import CAA, CIA, CIMA, PruneBack, Superposition

Epochs = Annotated[int, Field(gt=0)]
Number = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Scale:
    """From a recipe's units to a plan's: epochs to steps, learning rates to multiples of the optimizer's."""

    steps_per_epoch: int
    multiplier: float
    lr: float

    def steps(self, epochs: int) -> int:
        return times(epochs, self.multiplier) * self.steps_per_epoch

    def rate(self, lr: float) -> float:
        return lr / self.lr


def times(epochs: int, multiplier: float) -> int:
    """Extended training: whole epochs, at least one."""
    return max(1, round(epochs * multiplier))


class PlanSpec(Spec):
    """A run in phases, some of which leave a ticket."""

    counted: ClassVar[str | None] = "cycles"  # the field that says how many tickets, by which a plan is extended

    name: str
    selection: Literal["last", "best"] = Field(
        "last", description="a ticket is the last iterate of its phase, or the best of its epochs on validation"
    )
    fraction: Share | Annotated[tuple[Share, Share], Strict(False)] | None = Field(
        None, description="share replaced by an update: a number, two for a cosine, null for the method's own"
    )

    @property
    @abstractmethod
    def phases(self) -> tuple[int, ...]:
        """Their epochs, before the multiplier."""

    @abstractmethod
    def build(self, scale: Scale, lr: Schedule) -> Plan:
        """The plan; `lr` is the recipe's schedule, over its first phase."""

    @property
    def falling(self) -> Schedule | None:
        """The schedule of the drop fraction."""
        if isinstance(self.fraction, tuple):
            return schedules.Cosine(*self.fraction)
        return None if self.fraction is None else schedules.Constant(self.fraction)


class ITOP(PlanSpec):
    """One phase and its last iterate; a DST ensemble is several seeds of it."""

    counted = None

    name: Literal["itop"]
    epochs: Epochs = Field(description="whole epochs, > 0")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.epochs,)

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        return plans.itop(scale.steps(self.epochs), lr=lr, fraction=self.falling)


class EDST(PlanSpec):
    counted = "tickets"

    name: Literal["edst"]
    explore: Epochs = Field(description="epochs of exploration")
    refine: Annotated[tuple[Epochs, ...], Strict(False)] = Field(
        min_length=1, description="epochs of each stage of a refinement, a list such as [50, 50]"
    )
    tickets: Number = Field(description="how many tickets, > 0")
    gamma: Rate = Field(0.1, description="factor of the learning rate from stage to stage, > 0")
    escape: Share = Field(0.8, description="share of weights replaced before each ticket but the first, in [0, 1]")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.explore, *self.refine * self.tickets)

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        return plans.edst(
            scale.steps(self.explore),
            [scale.steps(stage) for stage in self.refine],
            self.tickets,
            lr=lr,
            gamma=self.gamma,
            escape=self.escape,
            fraction=self.falling,
        )


Train = Annotated[int, Field(gt=0, description="epochs of training before the first cycle")]
Cycle = Annotated[int, Field(gt=0, description="epochs of a cycle")]
Cycles = Annotated[int, Field(gt=0, description="how many cycles, each leaves a ticket, > 0")]


class SupTickets(PlanSpec):
    name: Literal["sup-tickets"]
    train: Train
    cycle: Cycle
    cycles: Cycles
    low: Rate = Field(0.001, description="learning rate at both ends of a cycle, > 0")
    high: Rate = Field(0.005, description="learning rate in the middle of a cycle, > 0")
    explore: Share = Field(0.5, description="share of weights replaced at the start of each cycle, in [0, 1]")
    evolve: bool = Field(True, description="whether the method updates the topology in training")
    include_pretrained: bool = Field(False, description="whether the network before the cycles is a ticket too")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.train, *[self.cycle] * self.cycles)

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        return plans.sup_tickets(
            scale.steps(self.train),
            scale.steps(self.cycle),
            self.cycles,
            lr=lr,
            low=scale.rate(self.low),
            high=scale.rate(self.high),
            explore=self.explore,
            evolve=self.evolve,
            fraction=self.falling,
            include_pretrained=self.include_pretrained,
        )


class FGE(PlanSpec):
    name: Literal["fge"]
    train: Train
    cycle: Cycle
    cycles: Cycles
    low: Rate = Field(description="learning rate at both ends of a cycle, > 0")
    high: Rate = Field(description="learning rate in the middle of a cycle, > 0")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.train, *[self.cycle] * self.cycles)

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        low, high, cycle = scale.rate(self.low), scale.rate(self.high), scale.steps(self.cycle)
        return plans.fge(scale.steps(self.train), cycle, self.cycles, low=low, high=high, lr=lr, fraction=self.falling)


class SWA(PlanSpec):
    name: Literal["swa"]
    train: Train
    cycle: Cycle
    cycles: Cycles
    rate: Rate = Field(description="learning rate after training, > 0")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.train, *[self.cycle] * self.cycles)

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        rate, cycle = scale.rate(self.rate), scale.steps(self.cycle)
        return plans.swa(scale.steps(self.train), cycle, self.cycles, rate=rate, lr=lr, fraction=self.falling)


class Snapshot(PlanSpec):
    name: Literal["snapshot"]
    cycle: Cycle
    cycles: Cycles
    explore: Share = Field(0.0, description="share of weights replaced at each restart, in [0, 1]")

    @property
    def phases(self) -> tuple[int, ...]:
        return (self.cycle,) * self.cycles

    def build(self, scale: Scale, lr: Schedule) -> Plan:
        return plans.snapshot(scale.steps(self.cycle), self.cycles, explore=self.explore, fraction=self.falling)


AnyPlan = Annotated[
    ITOP | EDST | SupTickets | FGE | SWA | Snapshot, Field(discriminator="name"), BeforeValidator(named)
]


class SuperposeSpec(Spec):
    """How the tickets are averaged at the end of a run."""

    name: Literal["cia", "caa", "cima", "greedy"] = Field(
        description="of all tickets: cia, caa or cima; greedy: the mean of those that validation is no worse for"
    )
    decay: Share | None = Field(None, description="of cima, on the average so far, in [0, 1]; .5 when null")
    each: bool = Field(False, description="of cia: prune after every ticket instead of once at the end")
    prune: Literal["global", "layer"] = Field("global", description="back to density over all layers, or in each")
    batch_norm: Literal["average", "reestimate"] = Field(
        "average", description="statistics averaged too, or estimated anew in a pass over the training set"
    )

    guard: float | None = Field(
        None, ge=0, description="highest loss barrier between tickets, on validation, at which they are averaged"
    )

    @model_validator(mode="after")
    def _fitting(self) -> SuperposeSpec:
        if self.decay is not None and self.name != "cima":
            raise ValueError(f"`decay` belongs to cima, but the name is {self.name!r}: drop it")
        if self.each and self.name != "cia":
            raise ValueError(f"`each` belongs to cia, but the name is {self.name!r}: drop it")
        if self.guard is not None and self.name == "greedy":
            raise ValueError("`guard` refuses what greedy leaves out: drop one")
        return self

    def build(self, loss: Evaluate) -> Superposition:
        """The empty superposition. `loss`: of a ticket on validation, asked by what looks before it averages."""
        back, decay = PruneBack(self.prune), 0.5 if self.decay is None else self.decay
        made: dict[str, Superposition] = {
            "cia": CIA(back, each=self.each),
            "caa": CAA(back),
            "cima": CIMA(decay, back),
            "greedy": GreedySoup(lambda ticket: -loss(ticket), partial(CIA, back)),
        }
        average = made[self.name]
        return average if self.guard is None else Guarded(average, loss, self.guard)


AnySuperpose = Annotated[SuperposeSpec, BeforeValidator(named)]

USUAL: dict[str, SuperposeSpec] = {
    "sup-tickets": SuperposeSpec.model_validate({"name": "cia"}),
    "swa": SuperposeSpec.model_validate({"name": "cia", "batch_norm": "reestimate"}),
}
"""Plans whose point is the average."""
