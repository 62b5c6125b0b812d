"""A whole run as one frozen value. Unknown keys and loose types are refused; every field says what it takes."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from regrow.recipe.distill import DistillSpec, taught
from regrow.recipe.plans import USUAL, AnyPlan, AnySuperpose, SuperposeSpec, times
from regrow.recipe.spec import OpenSpec, Spec, named
from regrow.recipe.start import ERK, MASK, StartSpec, opened

FORMAT: Literal[1] = 1
LABELS = ("name", "about", "seeds")  # they say what a run is called and which runs there are, not what one run is


def _moment(value: float) -> float:
    if isinstance(value, float) and not 0 <= value < 1:
        raise ValueError("should be a whole number of epochs, or a fraction of the run in [0, 1)")
    if value < 0:
        raise ValueError("should not be negative")
    return value


Moment = Annotated[int | float, AfterValidator(_moment)]
Density = Annotated[float, Field(gt=0, le=1)]
Names = Annotated[tuple[str, ...], Strict(False)]  # YAML has lists, no tuples


class DataSpec(Spec):
    name: str = Field(description="a data set's name (digits, fashion_mnist, cifar10, ...) or the path of an .npz")
    validation: float = Field(0.1, ge=0, lt=1, description="share of the training set held out, in [0, 1)")
    augment: bool = Field(True, description="true or false")


class ModelSpec(OpenSpec):
    name: str = Field(description="a model's name (mlp, lenet5, vgg16, resnet34, ...)")


class EverySpec(Spec):
    """When the topology is updated; what is not given stays the method's own."""

    interval: int | None = Field(None, gt=0, description="optimizer steps between two topology updates")
    start: float | None = Field(None, ge=0, lt=1, description="fraction of the run at which updates begin")
    end: float | None = Field(None, gt=0, le=1, description="fraction of the run at which updates end")


class MethodSpec(OpenSpec):
    name: str = Field(description="a method's name; `regrow show methods` lists them")
    every: EverySpec | None = Field(None, description="{interval, start, end}")


class TweakSpec(OpenSpec):
    name: str = Field(description="soft-activation, ghost-skip, rescaled-init or label-smoothing")


class OptimizerSpec(Spec):
    name: str
    weight_decay: float = Field(0.0, ge=0, description="L2 strength, >= 0")
    no_decay: Names = Field((), description="patterns of parameter names without weight decay, such as ['*bn*']")


class SGD(OptimizerSpec):
    name: Literal["sgd"]
    lr: float = Field(0.1, gt=0, description="learning rate, > 0")
    momentum: float = Field(0.9, ge=0, lt=1, description="in [0, 1)")
    nesterov: bool = Field(False, description="true or false")


class Adam(OptimizerSpec):
    name: Literal["adam", "adamw"]
    lr: float = Field(1e-3, gt=0, description="learning rate, > 0")
    betas: Annotated[tuple[float, float], Strict(False)] = Field((0.9, 0.999), description="two numbers in [0, 1)")


class ScheduleSpec(Spec):
    name: str
    warmup: Moment = Field(0, description="linear warm-up: whole epochs (not multiplied), or a fraction of the run")


class Constant(ScheduleSpec):
    name: Literal["constant"]


class Cosine(ScheduleSpec):
    name: Literal["cosine"]
    floor: float = Field(0.0, ge=0, le=1, description="the last learning rate, as a share of the first")


class Milestones(ScheduleSpec):
    name: Literal["milestones"]
    at: Annotated[tuple[Moment, ...], Strict(False)] = Field(
        description="where the learning rate drops: whole epochs (times the multiplier), or fractions of the run"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each drop, in (0, 1]")


AnyOptimizer = Annotated[SGD | Adam, Field(discriminator="name"), BeforeValidator(named)]
AnySchedule = Annotated[Constant | Cosine | Milestones, Field(discriminator="name"), BeforeValidator(named)]

CONSTANT = Constant.model_validate({"name": "constant"})


class Recipe(Spec):
    """Everything that decides a run but its seed. `sparsity` is accepted at the edge and stored as `density`."""

    version: Literal[1] = Field(FORMAT, description="the recipe format, 1")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="lower-case letters, digits, '.', '_', '-'")
    about: str = Field("", description="one line for people")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] = Field(
        (0,), min_length=1, description="one run per seed, a list such as [0, 1, 2]"
    )
    data: Annotated[DataSpec, BeforeValidator(named)] = Field(description="a data set's name, or {name, ...}")
    model: Annotated[ModelSpec, BeforeValidator(named)] = Field(description="a model's name, or {name, ...}")
    optimizer: AnyOptimizer = Field(description="sgd, adam or adamw, or {name, lr, ...}")
    schedule: AnySchedule = Field(
        CONSTANT, description="of the learning rate (of a plan's first phase): constant, cosine, {name: milestones, at}"
    )
    epochs: int | None = Field(
        None, gt=0, description="passes over the training set; or give a `plan`, which has its own"
    )
    plan: AnyPlan | None = Field(
        None,
        description="itop, edst, sup-tickets, fge, swa or snapshot with its lengths, as {name: edst, explore, ...}",
    )
    superpose: AnySuperpose | None = Field(
        None, description="average of the plan's tickets: cia, caa, cima, or {name, prune, batch_norm, ...}"
    )
    distill: Annotated[DistillSpec | None, BeforeValidator(taught)] = Field(
        None, description="who teaches it: the path of a finished run, or {teacher, temperature, share}"
    )
    reference_epochs: int | None = Field(
        None, gt=0, description="length of the dense run that FLOPs are compared with; this run's when null"
    )
    multiplier: float = Field(1.0, gt=0, description="extended training: scales epochs, milestones and horizon")
    batch_size: int = Field(gt=0, description="samples per optimizer step, over all processes")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="in [0, 1)")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="as Lightning Fabric says it")
    memory_format: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="of dense convolutions' weights and images: contiguous, or channels_last"
    )
    method: Annotated[MethodSpec | None, BeforeValidator(named)] = Field(
        None, description="a method's name, {name, every, ...}, or null for a dense run"
    )
    density: Density | None = Field(None, description="fraction of weights kept, in (0, 1]; or give `sparsity`")
    topology: Annotated[StartSpec, BeforeValidator(opened)] = Field(
        ERK, description="where the first weights are: erk, snip, {name: grasp, ...}, or the path of a mask"
    )
    include: Names = Field((), description="patterns of weight names to make sparse, the defaults when empty")
    exclude: Names = Field((), description="patterns of weight names to keep dense")
    overrides: dict[str, Density] = Field({}, description="pattern of weight names -> density of those layers")
    tweaks: Annotated[tuple[Annotated[TweakSpec, BeforeValidator(named)], ...], Strict(False)] = Field(
        (), description="changes of training, a list such as [soft-activation, {name: ghost-skip, until: 0.4}]"
    )
    backend: Literal["masked", "sparse", "auto"] = Field(
        "masked",
        description="masked (dense arithmetic), sparse (only the weights that exist are stored and computed), or auto: "
        "layer by layer what is faster, measured in the first training step",
    )
    evaluate_every: int = Field(1, gt=0, description="epochs from one look at the validation split to the next")
    threads: int | None = Field(None, gt=0, description="CPU threads; torch decides when null")

    @model_validator(mode="before")
    @classmethod
    def _one_unit(cls, values: object) -> object:
        if not isinstance(values, dict) or "sparsity" not in values:
            return values
        values = dict(values)
        sparsity = values.pop("sparsity")
        if values.get("density") is not None:
            raise ValueError("gives both `density` and `sparsity`: keep one, density = 1 - sparsity")
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
            raise ValueError(f"`sparsity` is {sparsity!r}, but should be a number in [0, 1): the fraction removed")
        return values | {"density": round(1 - sparsity, 12)}

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if (self.epochs is None) == (self.plan is None):
            have = "both `epochs` and a `plan`" if self.plan else "neither `epochs` nor a `plan`"
            raise ValueError(f"has {have}: a plan has its own lengths; give one, such as `epochs: 250`")
        if self.superpose is not None and self.plan is None:
            raise ValueError(
                "has `superpose` but no `plan`, and so no tickets to average: add one, such as sup-tickets"
            )
        if self.plan is not None and self.plan.name == "snapshot" and self.schedule != CONSTANT:
            raise ValueError("has a `schedule`, but the plan 'snapshot' sets the learning rate itself: drop `schedule`")
        if self.method is not None and self.density is None and self.topology.name != MASK:
            raise ValueError(f"has method {self.method.name!r} but no `density`: add one, such as `density: 0.1`")
        if self.method is None and self.backend != "masked":
            raise ValueError(
                f"has `backend: {self.backend}` but no `method`: add one, such as `method: rigl-itop`, or drop it"
            )
        if self.method is None and self.density is not None:
            raise ValueError("has a `density` but no `method`: add one, such as `method: rigl-itop`, or drop it")
        if self.method is None and self.tweaks:
            raise ValueError("has `tweaks` but no `method`: add one, such as `method: static`, or drop them")
        if self.label_smoothing and any(tweak.name == "label-smoothing" for tweak in self.tweaks):
            raise ValueError("smooths labels twice, by `label_smoothing` and by a tweak: drop one")
        return self

    @property
    def total_epochs(self) -> int:
        """Passes over the training set, with the multiplier."""
        return sum(times(phase, self.multiplier) for phase in self._phases)

    @property
    def compared_epochs(self) -> int:
        """Length of the dense run that FLOPs are compared with."""
        return self.reference_epochs or sum(self._phases)

    @property
    def _phases(self) -> tuple[int, ...]:
        return self.plan.phases if self.plan else (self.epochs or 1,)

    @property
    def average(self) -> SuperposeSpec | None:
        """Of the tickets; some plans have one unless told otherwise."""
        return self.superpose or (USUAL.get(self.plan.name) if self.plan else None)

    @property
    def hash8(self) -> str:
        """Names a run by the format and what differs from the defaults: a new defaulted field renames nothing."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"version", *LABELS})
        text = json.dumps({"format": FORMAT, **fields}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        """`<name>-<hash8>`, the folder of its runs."""
        return f"{self.name}-{self.hash8}"
