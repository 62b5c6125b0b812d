"""R_s of a run that has not begun: exact where nothing or chance decides, a range where gradients do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from regrow.core import growth
from regrow.core.topology import Shape
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.sizes import word_of
from regrow.methods.drop_grow import DropGrow
from regrow.metrics.exploration import explored, total

Kind = Literal["exact", "closed form", "estimate", "bounds"]


@dataclass(frozen=True)
class Measured:
    """Runs of gradient growth that have been made: what they explored, and the reach that says as much.

    `turnover` is the sum of the drop fractions over the run; `reach` the least and the most over seeds, whose number is
    0 where others report a mean.
    """

    network: str
    convolutional: bool
    data: str
    method: str
    density: float
    updates: int
    turnover: float
    seeds: int
    exploration_rate: float
    reach: tuple[float, float]
    source: str


@dataclass(frozen=True)
class Foreseen:
    """R_s at the start and after each update, its lowest and highest; equal where it is known.

    `low_of` and `high_of` are of each layer at the end; `runs` are what an estimate rests on.
    """

    kind: Kind
    why: str
    steps: list[int]
    low: list[float]
    high: list[float]
    low_of: dict[str, float]
    high_of: dict[str, float]
    runs: list[Measured]


@cache
def measured() -> tuple[Measured, ...]:
    """All there are. Written by benchmarks/studies/reach.py from the studies' results."""
    content = json.loads(Path(__file__).with_name("measured.json").read_text(encoding="utf-8"))
    return tuple(Measured(**{**row, "reach": tuple(row["reach"])}) for row in content["runs"])


def foresee(draft: Draft) -> Foreseen:
    """The course of R_s, over the moves of the run."""
    method, p = draft.method, [move.fraction for move in draft.moves]
    if method is None:
        return _course(draft, "exact", "a dense run has explored everything", torch.ones(1, 0))
    still = explored(draft.first, [0.0] * len(p))
    new = torch.tensor(list(accumulate(p, initial=0.0)), dtype=torch.float64)[:, None] * still
    most = (still + new).clamp(max=1.0)
    grow, below = getattr(method, "grow", None), getattr(method, "below", math.inf)
    if grow is None:
        return _course(draft, "exact", "nothing grows", still)
    if not isinstance(method, DropGrow) or grow not in (growth.random, growth.unexplored, growth.gradient):
        why = "the first weights at least, and no more than all that grow; what these are cannot be foreseen"
        return _course(draft, "bounds", why, still, most)
    if below < math.inf:
        why = "at most what growth at random explores if updates replace all they may"
        return _course(draft, "bounds", why, still, most if grow is growth.unexplored else explored(draft.first, p))
    if grow is growth.random:
        return _course(draft, "closed form", "growth is random", explored(draft.first, p))
    if grow is growth.unexplored:
        return _course(draft, "closed form", "what grows was never active, while there is such", most)
    runs = _alike(draft)
    low, high = (pick(end for run in runs for end in run.reach) for pick in (min, max))
    why = f"growth by gradient as in {len(runs)} measured settings{_reserve(draft, runs)}"
    return _course(draft, "estimate", why, explored(draft.first, p, low), explored(draft.first, p, high), runs)


def _alike(draft: Draft) -> list[Measured]:
    """The measured runs on the same data, else all; of them those of the same method, if there are any."""
    assert draft.recipe.method is not None
    name, data = draft.recipe.method.name, word_of(draft.recipe.data.name)
    convolutional = any(len(shape) > 2 for shape in draft.net.shapes.values())
    near = [run for run in measured() if run.data == data and run.convolutional == convolutional]
    runs = near or list(measured())
    return [run for run in runs if run.method == name] or runs


def _reserve(draft: Draft, runs: list[Measured]) -> str:
    """In what the runs are not like this one."""
    x, known = sum(move.fraction for move in draft.moves), max(run.turnover for run in runs)
    beyond = f"; weights are replaced {x:.0f} times, in those at most {known:.0f}" if x > 1.2 * known else ""
    strange = word_of(draft.recipe.data.name) not in {run.data for run in runs}
    return f"{', of other networks on other data' if strange else ''}{beyond}"


def _course(
    draft: Draft, kind: Kind, why: str, low: Tensor, high: Tensor | None = None, runs: list[Measured] | None = None
) -> Foreseen:
    high = low if high is None else high
    shapes = draft.net.shapes
    return Foreseen(
        kind=kind,
        why=why,
        steps=[0, *(move.step for move in draft.moves)],
        low=_overall(shapes, low),
        high=_overall(shapes, high),
        low_of=dict(zip(shapes, low[-1].tolist(), strict=True)),
        high_of=dict(zip(shapes, high[-1].tolist(), strict=True)),
        runs=runs or [],
    )


def _overall(shapes: dict[str, Shape], rates: Tensor) -> list[float]:
    overall: list[float] = total(shapes, rates).tolist() if shapes else [1.0] * len(rates)
    return overall
