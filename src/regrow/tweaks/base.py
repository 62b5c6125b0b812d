"""Tweak: a mask-agnostic change of training, gone without trace when its time is over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import nn

from regrow.core.errors import RegrowError, choose
from regrow.core.saliency import Batch, LossFn
from regrow.core.schedules import Cosine, Linear, Schedule
from regrow.core.topology import Topology

GHOST = "ghost"
"""Part of every key that goes with a tweak: `layer1.0.conv1.ghost.dense.weight`."""

COURSES: dict[str, Callable[[float, float], Schedule]] = {"linear": Linear, "cosine": Cosine}


def is_ghost(key: str) -> bool:
    """Whether a parameter or buffer of this name goes with a tweak."""
    return GHOST in key.split(".")


def _as_it_is(module: nn.Module) -> None:
    """A module runs as torch has it."""


@dataclass(frozen=True)
class Context:
    """What a tweak may know of the run.

    Attributes:
        topology: which weights exist at first.
        seed: ghosts are drawn by it and by their names.
        batches: of training data, (inputs, targets), the same ones each time it is iterated.
        loss: (outputs, targets) -> mean loss of the batch.
        host: a module that has come into the model -> None; it runs as the backend has it from then on.
    """

    topology: Topology
    seed: int = 0
    batches: Iterable[Batch] | None = None
    loss: LossFn | None = None
    host: Callable[[nn.Module], None] = _as_it_is


class Tweak(ABC):
    """Attached, told the progress before every step, detached: then the model is the plain one, exactly."""

    until: float
    """Share of the run (of a plan: of its first phase) after which it is gone; 0: it acts before training alone, on the
    plain model, whose removed weights it may still see."""

    on_loss: ClassVar[bool] = False
    """Whether it changes the loss, and not the model."""

    @property
    def name(self) -> str:
        """As TWEAKS calls it."""
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in type(self).__name__).removeprefix("-")

    @abstractmethod
    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        """Change the model. Returns its ghost parameters, by their names in the model.

        Raises:
            RegrowError: there is nothing to act on, or the context lacks what it needs.
        """

    def loss(self, loss_fn: LossFn, progress: float) -> LossFn:
        """The loss to train by, at this progress of the run in [0, 1)."""
        return loss_fn

    def at(self, progress: float) -> None:  # noqa: B027  # nothing to do, for some
        """The coming step is at this progress of the run, in [0, until)."""

    def detach(self) -> None:  # noqa: B027
        """Undo `attach`."""

    def note(self) -> str:
        """What it does to the model and costs while it is there, in words."""
        return ""


@dataclass(kw_only=True)
class Fading(Tweak, ABC):
    """A tweak with a strength that goes from `start` to `stop` while it is there.

    Args:
        start, stop: the strength at first and at last.
        until: share of the run after which it is gone, in (0, 1].
        course: "linear" or "cosine".
    """

    start: float
    stop: float
    until: float
    course: str = "linear"

    def __post_init__(self) -> None:
        choose(COURSES, self.course, "course")
        if not 0.0 < self.until <= 1.0:
            raise RegrowError(f"{self.name}: until={self.until:g} is outside (0, 1]; it is a share of the run")

    def strength(self, progress: float) -> float:
        """v(t) from `start` at t = 0 to `stop` at t = `until`."""
        return COURSES[self.course](self.start, self.stop)(min(progress / self.until, 1.0))


def describe(tweak: Tweak) -> str:
    """`ghost-skip(start=1, stop=0, until=0.4, ...)`: its hyper-parameters, which tell it from every other."""
    values = {field.name: getattr(tweak, field.name) for field in fields(tweak) if field.init}  # type: ignore[arg-type]
    return f"{tweak.name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"
