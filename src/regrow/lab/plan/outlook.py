"""All that can be said of a run before it is begun."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regrow.core.topology import Shape
from regrow.lab.plan.calibrate import Calibration, Speed, Way, calibrate, evaluation
from regrow.lab.plan.draft import Draft
from regrow.lab.plan.foreseen import Foreseen, foresee
from regrow.lab.plan.held import Held, held
from regrow.lab.plan.pruned import Pruned
from regrow.train.data.folder import FolderData


@dataclass(frozen=True)
class Layer:
    """A parameter of two or more dimensions: `nnz` of its `numel` weights at first, FLOPs of a forward pass with those,
    and R_s at the end, lowest and highest; `why` it is sparse, or dense."""

    name: str
    shape: Shape
    numel: int
    nnz: int
    flops: float
    low: float
    high: float
    why: str


@dataclass(frozen=True)
class Cost:
    """One way to execute the run. `refused` says why it cannot be; seconds of training, and of evaluation besides."""

    backend: str
    refused: str
    held: Held | None
    speed: Speed | None
    training: float | None
    evaluation: float | None


@dataclass(frozen=True)
class Due:
    """A ticket: taken after `step`; FLOPs since the one before, as a share of dense training, and seconds."""

    number: int
    step: int
    epoch: int
    share: float
    seconds: float | None


@dataclass(frozen=True)
class Outlook:
    """What `regrow plan` shows. FLOPs as a run's result has them, and their lowest and highest, equal where they are
    known; `unsure` says why they may not be, and `rests_on` names the measured runs; costs are in the order dense,
    masked, sparse."""

    draft: Draft
    layers: list[Layer]
    explored: Foreseen
    flops: dict[str, float]
    flops_low: dict[str, float]
    flops_high: dict[str, float]
    unsure: str
    rests_on: tuple[Pruned, ...]
    costs: list[Cost]
    tickets: list[Due]
    calibration: Calibration | None
    notes: list[str]

    @property
    def own(self) -> Cost:
        """That of the recipe's backend."""
        recipe = self.draft.recipe
        return next(cost for cost in self.costs if cost.backend == (recipe.backend if recipe.method else "dense"))


def outlook(draft: Draft, calibrated: bool = True) -> Outlook:
    """Of a drafted run; `calibrated` takes ten seconds of this machine."""
    explored = foresee(draft)
    backends = [None, "masked", "sparse"] if draft.method else [None]
    refusal = draft.net.refusal() if draft.method else ""
    can = [backend for backend in backends if backend != "sparse" or not refusal]
    calibration = calibrate([Way(draft, backend) for backend in can]) if calibrated else None
    speeds = dict(zip(can, calibration.speeds, strict=True)) if calibration else {}
    costs = [
        _cost(draft, backend, explored, speeds.get(backend), refusal if backend == "sparse" else "")
        for backend in backends
    ]
    flops, (low, high) = draft.flops(), (end.flops() for end in draft.ends)
    sure = draft.rests_on and all(math.isclose(low[key], high[key]) for key in low)  # every weight is multiplied once
    seconds = next(
        (c.training for c in costs if c.backend == (draft.recipe.backend if draft.method else "dense")), None
    )
    return Outlook(
        draft=draft,
        layers=_layers(draft, explored),
        explored=explored,
        flops=flops,
        flops_low=flops if sure else low,
        flops_high=flops if sure else high,
        unsure="" if sure else draft.unsure,
        rests_on=() if sure else draft.rests_on,
        costs=costs,
        tickets=list(_tickets(draft, flops["training_ratio"], seconds)),
        calibration=calibration,
        notes=_notes(draft, calibration),
    )


def _cost(draft: Draft, backend: str | None, explored: Foreseen, speed: Speed | None, refused: str) -> Cost:
    name = backend or "dense"
    if refused:
        return Cost(name, refused, None, None, None, None)
    size = held(draft, backend, explored.high_of)
    if speed is None:
        return Cost(name, "", size, None, None, None)
    updates = draft.ledger.updates if backend else 0
    return Cost(name, "", size, speed, speed.training(draft.steps, updates), evaluation(draft, speed))


def _layers(draft: Draft, explored: Foreseen) -> list[Layer]:
    reasons = {part.name: v.reason for v in draft.net.verdicts for part in v.parts}
    reasons |= {v.name: v.reason for v in draft.net.verdicts if not v.parts}
    found = []
    weights = {name: tuple(p.shape) for name, p in draft.net.model.named_parameters() if name in draft.dense_flops}
    for name, shape in (weights | draft.net.shapes).items():
        if name not in draft.dense_flops:
            continue
        numel = draft.net.model.get_parameter(name).numel() if name in weights else draft.net.parts[name].numel
        density = draft.first.get(name, 1.0)
        found.append(
            Layer(
                name=name,
                shape=shape,
                numel=numel,
                nnz=round(density * numel),
                flops=density * draft.dense_flops[name],
                low=explored.low_of.get(name, 1.0),
                high=explored.high_of.get(name, 1.0),
                why=reasons.get(name, "dense"),
            )
        )
    return found


def _tickets(draft: Draft, ratio: float, seconds: float | None) -> Sequence[Due]:
    found, before = [], 0
    for number, step in enumerate(draft.tickets):
        share = (step - before) / draft.steps
        due = Due(number, step, step // draft.steps_per_epoch, share * ratio, seconds and share * seconds)
        found.append(due)
        before = step
    return found


def _notes(draft: Draft, calibration: Calibration | None) -> list[str]:
    notes = []
    if draft.recipe.tweaks:
        notes.append("tweaks: seconds are those of the run without them; rescaled-init comes before the first step")
    if draft.recipe.distill:
        notes.append("distill: seconds and memory are those of the run without its teacher's answers")
        if draft.answer is None:
            notes.append("distill: the teacher's runs have not finished: their answers are not in the FLOPs")
    if calibration and calibration.batch < draft.recipe.batch_size:
        notes.append(f"seconds are scaled up from steps of {calibration.batch} samples")
    if calibration and draft.recipe.data.name.startswith("folder") and not isinstance(draft.sizes.data, FolderData):
        notes.append("the images are not here: reading and decoding them is not in the seconds")
    return notes
