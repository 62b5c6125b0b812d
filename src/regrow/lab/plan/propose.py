"""The way back: from what a run should reach or may cost to the settings that do it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from regrow.core.errors import RegrowError
from regrow.lab.plan.calibrate import Speed, Way, calibrate
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.foreseen import foresee
from regrow.lab.plan.outlook import Outlook
from regrow.recipe.load import override, recipe_of

_OFTEN = 2000
"""Updates of a phase at most."""


@dataclass(frozen=True)
class Goals:
    """What is asked for: R_s of at least `rs` (of an estimate its low end), training FLOPs of at most `budget` times
    those of the dense reference (of an estimate their high end), and at most `minutes` of training here."""

    rs: float | None = None
    budget: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for flag, value in (("--target-rs", self.rs), ("--budget", self.budget), ("--minutes", self.minutes)):
            if value is not None and not 0 < value < (1 if flag == "--target-rs" else math.inf):
                bounds = "between 0 and 1, such as 0.9" if flag == "--target-rs" else "above 0"
                raise RegrowError(f"{flag} {value:g}: should be {bounds}")

    @property
    def given(self) -> bool:
        return any(goal is not None for goal in (self.rs, self.budget, self.minutes))


@dataclass(frozen=True)
class Found:
    """What a changed run would be."""

    low: float
    high: float
    ratio: float
    minutes: float | None


@dataclass(frozen=True)
class Proposal:
    """One knob turned: its `--set` words and what comes of them; or, without words, why it cannot do it alone."""

    knob: str
    settings: list[str]
    found: Found | None
    why: str = ""


@dataclass(frozen=True)
class Knob:
    """One setting of a recipe by whole positions: the higher, the more is explored, computed and waited for."""

    name: str
    positions: range
    setting: Callable[[int], str]


def knobs_of(draft: Draft) -> list[Knob]:
    """Those that the recipe has."""
    recipe, found = draft.recipe, []
    if draft.method and draft.method.every and draft.moves:
        steps = max(period.steps for period in draft.timetable.periods)
        positions = range(-steps, -max(1, steps // _OFTEN) + 1)
        found.append(Knob("update interval", positions, lambda at: f"method.every.interval={-at}"))
    if draft.method and recipe.density is not None:
        most = int(10_000 * getattr(draft.method, "initial", 1.0))  # what prunes starts at least as dense as it ends
        found.append(Knob("density", range(1, min(most, 9_999) + 1), lambda at: f"density={at / 10_000:g}"))
    if recipe.plan and recipe.plan.counted:
        counted = recipe.plan.counted
        found.append(Knob("tickets", range(1, 101), lambda at: f"plan.{counted}={at}"))
    found.append(Knob("length", range(1, 2_001), lambda at: f"multiplier={at / 20:g}"))
    return found


def propose(outlook: Outlook, goals: Goals) -> list[Proposal]:
    """One proposal a knob, the others as they are: the most that the limits allow, or the least that reaches R_s.

    Raises:
        RegrowError: R_s of a run that never grows, or minutes where none were measured.
    """
    draft, speed = outlook.draft, outlook.own.speed
    if goals.rs is not None and getattr(draft.method, "grow", None) is None:
        name = draft.recipe.method.name if draft.recipe.method else "a dense run"
        raise RegrowError(f"--target-rs {goals.rs:g}: {name} grows nothing; take one that does: --set method=set-itop")
    if goals.minutes is not None and speed is None:
        raise RegrowError(f"--minutes {goals.minutes:g} needs the seconds of this machine: leave out --no-calibration")
    clock = _Clock(draft, speed, by_density=goals.minutes is not None)
    return [_Search(draft, goals, clock, knob).proposal() for knob in knobs_of(draft)]


class _Clock:
    """Minutes of training. On the sparse backend a step takes a + b f_S, from the measured one and one of half the
    density."""

    def __init__(self, draft: Draft, speed: Speed | None, by_density: bool) -> None:
        self._speed, self._share, self._slope = speed, draft.forward_share, 0.0
        if speed and by_density and draft.recipe.backend == "sparse" and draft.recipe.density:
            half = _changed(draft, [f"density={draft.recipe.density / 2:g}"])
            whole, less = calibrate([Way(draft, "sparse"), Way(half, "sparse")]).speeds
            self._slope = max(0.0, (whole.step - less.step) / (draft.forward_share - half.forward_share))

    def minutes(self, draft: Draft) -> float | None:
        if self._speed is None:
            return None
        denser = self._slope * (draft.forward_share - self._share) * draft.steps
        return (self._speed.training(draft.steps, draft.ledger.updates) + denser) / 60


@dataclass
class _Search:
    """Bisection over a knob's positions. What is refused at a position is too little of it."""

    draft: Draft
    goals: Goals
    clock: _Clock
    knob: Knob
    _seen: dict[int, Found | None] = field(default_factory=dict)

    def proposal(self) -> Proposal:
        explore = self.goals.rs is not None
        least, above = self._first(self._reaches), self._first(self._exceeds)
        if least is None:
            return self._not(f"does not reach an R_s of {self.goals.rs:g} alone")
        if above is not None and above <= least:
            return self._not("costs too much before it gets there" if explore else "costs too much at its least")
        if above is None and not explore:
            return self._not("never costs that much")
        at = least if explore or above is None else above - 1
        return Proposal(self.knob.name, [self.knob.setting(at)], self._at(at))

    def _not(self, why: str) -> Proposal:
        return Proposal(self.knob.name, [], None, why)

    def _first(self, holds: Callable[[Found | None], bool]) -> int | None:
        """The lowest position where it holds, which it then does at all above."""
        low, high = self.knob.positions[0], self.knob.positions[-1]
        if not holds(self._at(high)):
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(self._at(middle)) else (middle + 1, high)
        return low

    def _reaches(self, found: Found | None) -> bool:
        return found is not None and (self.goals.rs is None or found.low >= self.goals.rs)

    def _exceeds(self, found: Found | None) -> bool:
        budget, minutes = self.goals.budget, self.goals.minutes
        if found is None:
            return False
        return (budget is not None and found.ratio > budget) or (
            minutes is not None and found.minutes is not None and found.minutes > minutes
        )

    def _at(self, position: int) -> Found | None:
        if position not in self._seen:
            self._seen[position] = self._look(position)
        return self._seen[position]

    def _look(self, position: int) -> Found | None:
        try:
            draft = _changed(self.draft, [self.knob.setting(position)])
        except RegrowError:
            return None
        explored, (_, dearest) = foresee(draft), draft.ends
        ratio = dearest.flops()["training_ratio"]
        return Found(explored.low[-1], explored.high[-1], ratio, self.clock.minutes(draft))


def _changed(draft: Draft, settings: list[str]) -> Draft:
    values = draft.recipe.model_dump(mode="json")
    for setting in settings:
        values = override(values, setting)
    return draft.with_recipe(recipe_of(values, draft.recipe.name))
