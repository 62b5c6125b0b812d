"""Plans: a run as phases that explore and capture. For any training loop: a learning-rate scheduler and a sparsifier.

plan = edst(explore_steps, refine_steps, tickets=3)
sparsifier = regrow.sparsify(model, optimizer, method="rigl-itop", density=0.1, plan=plan)
scheduler = scheduler_of(optimizer, plan)            # stepped after every optimizer step
... if sparsifier.step in capture_steps(plan): tickets.append(Ticket.of(model, sparsifier))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from regrow.core.errors import RegrowError
from regrow.core.schedules import Constant, Cosine, Cyclic, Part, Schedule, Stages
from regrow.sparsifier.timetable import Timetable

FLAT = Constant(1.0)


@dataclass(frozen=True)
class Phase:
    """A stretch of a run: the horizon of all that is scheduled in it, so that no phase depends on what follows.

    Args:
        steps: optimizer steps, at least 1.
        lr: learning rate over the phase's progress, as a multiple of the optimizer's own.
        fraction: drop fraction over its progress; None for the method's own schedule.
        explore: share of the weights replaced at its first step, in [0, 1]; 0 for none.
        evolve: whether the method updates the topology; False holds it, but for `explore`.
        capture: whether a ticket is taken of it.
    """

    steps: int
    lr: Schedule = FLAT
    fraction: Schedule | None = None
    explore: float = 0.0
    evolve: bool = True
    capture: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0.0 <= self.explore <= 1.0:
            raise RegrowError(f"a phase has at least 1 step and explores a share in [0, 1], but this is {self}")


Plan = tuple[Phase, ...]


def itop(steps: int, *, lr: Schedule = FLAT, fraction: Schedule | None = None) -> Plan:
    """One phase and its last iterate: a plain run, or one member of a DST ensemble, which is M of them by seed."""
    return (Phase(steps, lr, fraction, capture=True),)


def edst(
    explore_steps: int,
    refine_steps: int | Sequence[int],
    tickets: int,
    *,
    lr: Schedule = FLAT,
    gamma: float = 0.1,
    escape: float = 0.8,
    fraction: Schedule | None = None,
) -> Plan:
    """EDST: explore at a large learning rate, then refine a ticket, escape, refine the next, and so on.

    Liu et al. 2022, arXiv:2106.14568: 150 epochs of exploration and tickets of 100 (CIFAR), 30 and 30 + 30 + 10
    (ImageNet); .1 while exploring, then .01 and .001.

    Args:
        explore_steps: length of the exploration.
        refine_steps: length of each refinement stage; one number is two halves.
        tickets: M >= 1.
        lr: of the exploration.
        gamma: each stage of a refinement has gamma times the learning rate of the one before.
        escape: q, share of the weights replaced before tickets 2..M.
        fraction: p from one escape to the next (exploration and first refinement are one such stretch), instead of the
            method's own schedule in each phase: constant on CIFAR, cosine on ImageNet.

    >>> plan = edst(explore_steps=150, refine_steps=100, tickets=3)
    >>> [(phase.steps, phase.explore) for phase in plan]
    [(150, 0.0), (100, 0.0), (100, 0.8), (100, 0.8)]
    >>> capture_steps(plan)
    (250, 350, 450)
    """
    stages = (refine_steps - refine_steps // 2, refine_steps // 2) if isinstance(refine_steps, int) else refine_steps
    *begins, refine = accumulate(stages)
    falling = Stages(tuple(gamma ** (i + 1) for i in range(len(stages))), tuple(at / refine for at in begins))
    if tickets < 1:
        raise RegrowError(f"an EDST run gives at least one ticket, not {tickets}")

    def between(start: float, stop: float) -> Schedule | None:
        return None if fraction is None else Part(fraction, start, stop)

    share = explore_steps / (explore_steps + refine)
    first = Phase(refine, falling, between(share, 1.0), capture=True)
    later = Phase(refine, falling, fraction, explore=escape, capture=True)
    return (Phase(explore_steps, lr, between(0.0, share)), first, *[later] * (tickets - 1))


def sup_tickets(
    train_steps: int,
    cycle_steps: int,
    cycles: int,
    *,
    lr: Schedule = FLAT,
    low: float = 0.01,
    high: float = 0.05,
    explore: float = 0.5,
    evolve: bool = True,
    fraction: Schedule | None = None,
    include_pretrained: bool = False,
) -> Plan:
    """Sup-tickets: normal training, then short cycles that explore once and train the topology they found.

    Yin et al. 2022, arXiv:2205.15322, alg. 1 and eq. 3: the rate rises from `low` to `high` and falls back within each
    cycle, whose last iterate is the ticket. 226 + 3 x 8 epochs (CIFAR), 92 + 4 x 2 (ImageNet).

    Args:
        train_steps, cycle_steps, cycles: about 90 % of the steps train.
        lr: of the training.
        low, high: alpha_1, alpha_2, as multiples of the optimizer's learning rate.
        explore: p, share of the weights replaced at the start of every cycle.
        evolve: whether the topology evolves in training; False is a static network that explores between tickets.
        fraction: the drop fraction in training, instead of the method's own schedule.
        include_pretrained: take a ticket of the training too, as the published code averages it with the others.
    """
    train = Phase(train_steps, lr, fraction, evolve=evolve, capture=include_pretrained)
    return (train, *[Phase(cycle_steps, Cyclic(low, high), None, explore, evolve=False, capture=True)] * cycles)


def fge(
    train_steps: int,
    cycle_steps: int,
    cycles: int,
    *,
    low: float,
    high: float,
    lr: Schedule = FLAT,
    fraction: Schedule | None = None,
) -> Plan:
    """Fast geometric ensembling: cycles of a triangular rate, a ticket at each low point, no exploration.

    Garipov et al. 2018, arXiv:1802.10026. `low` and `high` as multiples of the optimizer's learning rate.
    """
    return sup_tickets(train_steps, cycle_steps, cycles, lr=lr, low=low, high=high, explore=0.0, fraction=fraction)


def swa(
    train_steps: int,
    cycle_steps: int,
    cycles: int,
    *,
    rate: float = 0.5,
    lr: Schedule = FLAT,
    fraction: Schedule | None = None,
) -> Plan:
    """Stochastic weight averaging: a constant rate after training, a ticket every `cycle_steps`, to be averaged.

    Izmailov et al. 2018, arXiv:1803.05407. `rate` as a multiple of the optimizer's learning rate.
    """
    return sup_tickets(train_steps, cycle_steps, cycles, lr=lr, low=rate, high=rate, explore=0.0, fraction=fraction)


def snapshot(cycle_steps: int, cycles: int, *, explore: float = 0.0, fraction: Schedule | None = None) -> Plan:
    """Snapshot ensemble: the rate falls along a cosine to zero and restarts; a ticket at the end of each cycle.

    alpha(t) = alpha_0 / 2 (cos(pi mod(t - 1, C) / C) + 1)  (Huang et al. 2017, arXiv:1704.00109, eq. 2). `explore`
    replaces that share of the weights at each restart.
    """
    first = Phase(cycle_steps, Cosine(1.0), fraction, capture=True)
    later = Phase(cycle_steps, Cosine(1.0), fraction, explore, capture=True)
    return (first, *[later] * (cycles - 1))


def sup_epochs(epochs: int, share: float, cycle: int) -> tuple[int, int]:
    """How Sup-tickets divides a run: epochs of training, and how many whole cycles fit into `share` of the run.

    Where no cycle fits, there is none (Yin et al. 2022, arXiv:2205.15322, published code).
    """
    cycles = int(epochs * share / cycle)
    return epochs - cycles * cycle, cycles


def total_steps(plan: Plan) -> int:
    """Optimizer steps of the whole plan."""
    return sum(phase.steps for phase in plan)


def capture_steps(plan: Plan) -> tuple[int, ...]:
    """After how many steps each ticket is due."""
    ends = accumulate(phase.steps for phase in plan)
    return tuple(end for phase, end in zip(plan, ends, strict=True) if phase.capture)


def ticket_at(plan: Plan, step: int) -> int | None:
    """The number, from 0, of the ticket whose phase the `step`-th step (from 1) belongs to, if it has one."""
    ends = list(accumulate(phase.steps for phase in plan))
    at = next((i for i, end in enumerate(ends) if step <= end), len(plan))
    return sum(phase.capture for phase in plan[:at]) if at < len(plan) and plan[at].capture else None


def learning_rate(plan: Plan) -> Callable[[int], float]:
    """Steps done -> learning rate of the coming step, as a multiple of the optimizer's own."""
    timetable = Timetable(plan)

    def multiple(done: int) -> float:
        phase, step = timetable.at(done + 1)
        return phase.lr((step - 1) / phase.steps)

    return multiple


class PlanLR(LambdaLR):
    """The plan's learning rate: a torch scheduler, to be stepped after every optimizer step.

    Taken up from a checkpoint (after the optimizer is), it sets the rate of the coming step, which a plan that has been
    extended since decides anew.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan) -> None:
        super().__init__(optimizer, learning_rate(plan))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group, base, multiple in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = base * multiple(self.last_epoch)
