"""What is measured: one model, trained in one way."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrow import methods
from regrow.core.errors import RegrowError, choose
from regrow.lab.memory import Growth
from regrow.methods.base import Method
from regrow.sparsifier import Sparsifier, sparsify
from regrow.train import models

UPDATE = 0.3
"""Share of the weights that a measured topology update replaces."""

_NEVER = 10**9
"""Steps to the first update of the method's own: here they come when they are measured."""

Optimizers = Callable[..., torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizers] = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
_SETTINGS: dict[str, dict[str, float]] = {"sgd": {"momentum": 0.9}, "adamw": {}}


@dataclass(frozen=True)
class Setting:
    """The model and its input, the same for all ways of training it."""

    model: str
    shape: tuple[int, ...]
    batch: int
    method: str = "rigl"
    optimizer: str = "sgd"
    threads: int | None = None

    @property
    def interval(self) -> int | None:
        """Steps between the method's updates."""
        every = self.made_method.every
        return every.interval if every else None

    @property
    def made_method(self) -> Method:
        """The method with the values of its paper.

        Raises:
            RegrowError: there is none of this name.
        """
        return methods.build(self.method)

    def claim_threads(self) -> None:
        """Use as many as are named; else torch has decided.

        Raises:
            RegrowError: they are more than the machine has.
        """
        if self.threads is None:
            return
        if self.threads > (os.cpu_count() or self.threads):
            raise RegrowError(f"--threads {self.threads}: this machine has {os.cpu_count()} processor cores.")
        torch.set_num_threads(self.threads)

    def build(self) -> nn.Module:
        """The model: a name of regrow's, `timm:NAME`, or `module:function`, a function of yours that makes one.

        Raises:
            RegrowError: there is none of this name.
        """
        module, colon, function = self.model.partition(":")
        if not colon or module == "timm":
            return models.build(self.model, self.shape)
        sys.path.insert(0, "")  # what lies in the current folder, as for `python -m`
        try:
            made = getattr(import_module(module), function)()
        except (ImportError, AttributeError, TypeError) as error:
            raise RegrowError(
                f"--model {self.model}: {error}. It names a function without arguments, as in `my_models:make` for "
                "`def make()` in my_models.py in this folder."
            ) from None
        finally:
            sys.path.remove("")
        if not isinstance(made, nn.Module):
            raise RegrowError(f"--model {self.model} made a {type(made).__name__}, but should make a torch.nn.Module.")
        if not any(True for _ in made.parameters()):
            raise RegrowError(f"--model {self.model} made a {type(made).__name__} without weights: nothing to train.")
        return made


@dataclass(frozen=True)
class Way:
    """How it is trained: dense without a backend; `exclude` names weights that stay dense."""

    backend: str | None = None
    sparsity: float = 0.0
    bf16: bool = False
    channels_last: bool = False
    exclude: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        kind = self.backend or "dense"
        said = {f"{self.sparsity:.3g}": self.backend, "bf16 autocast": self.bf16, "channels_last": self.channels_last}
        return ", ".join([kind, *(word for word, holds in said.items() if holds)])


class Subject:
    """A model under training on random data: the loop a user writes, a step at a time.

    Raises:
        RegrowError: the setup is one that `sparsify` refuses, or the model does not fit the input.
    """

    def __init__(self, setting: Setting, way: Way) -> None:
        torch.manual_seed(0)
        self.setting, self.way = setting, way
        self.model = setting.build()
        self.x = torch.randn(setting.batch, *setting.shape)
        if way.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(self._classes(), (setting.batch,))
        make = choose(
            OPTIMIZERS, setting.optimizer, "optimizer"
        )  # fused: PyTorch at its best; tiny steps: weights stay
        self.optimizer = make(self.model.parameters(), lr=1e-5, fused=True, **_SETTINGS[setting.optimizer])
        self.sparsifier = self._sparsified() if way.backend else None

    def _classes(self) -> int:
        try:
            with torch.no_grad():
                out = self.model(self.x[:2])
        except RuntimeError as error:
            shape = ",".join(map(str, self.setting.shape))
            raise RegrowError(f"{self.setting.model} does not take inputs of --shape {shape}: {error}") from None
        if out.dim() != 2:
            raise RegrowError(f"{self.setting.model} returns {list(out.shape)}, but should return [batch, classes].")
        return int(out.shape[1])

    def _sparsified(self) -> Sparsifier:
        method = self.setting.made_method
        if method.every is not None:
            method = replace(method, every=replace(method.every, interval=_NEVER))  # type: ignore[type-var]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it looks trained: what it has learnt is not measured
            return self._sparsify(method)

    def _sparsify(self, method: Method) -> Sparsifier:
        return sparsify(
            self.model,
            self.optimizer,
            method=method,
            sparsity=self.way.sparsity,
            total_steps=10 * _NEVER,
            exclude=self.way.exclude,
            backend=self.way.backend or "",
        )

    def loss(self) -> Tensor:
        """Forward."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.way.bf16):
            return cross_entropy(self.model(self.x), self.y)

    def step(self) -> None:
        """Forward, backward, optimizer."""
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def update(self) -> None:
        """A step with a topology update."""
        if self.sparsifier and self.setting.interval:
            self.sparsifier.explore(UPDATE)
        self.step()

    @property
    def weights(self) -> int:
        """Parameters of the dense model."""
        held = sum(parameter.numel() for parameter in self.model.parameters())
        if self.sparsifier is None or self.way.backend == "masked":
            return held
        return held + sum(prod(s) for s in self.sparsifier.topology.shapes.values()) - self.sparsifier.topology.nnz


@dataclass(frozen=True)
class Memory:
    """Bytes a process grows by, over what it was before the model was built: the peak while the model is built, the
    activations (of a forward pass alone), the peak while training, activations included."""

    building: int
    activations: int
    training: int


def memory_of(setting: Setting, way: Way, updates: int = 3) -> Memory:
    """Of this process, over some steps and topology updates; ask it in a child.

    Raises:
        RegrowError: the system does not tell.
    """
    setting.claim_threads()
    _warm(setting, way)
    growth = Growth()
    subject = Subject(setting, way)
    building = growth.peak
    growth.restart()
    held = growth.now
    loss = subject.loss()
    activations = growth.peak - held
    del loss
    growth.restart()
    for _ in range(updates):
        subject.step()
        subject.update()
    return Memory(building, activations, growth.peak)


def _warm(setting: Setting, way: Way) -> None:
    """Libraries, threads and what torch imports late are no part of the model."""
    subject = Subject(
        replace(setting, model="lenet300", shape=(1, 8, 8)), replace(way, exclude=(), channels_last=False)
    )
    subject.step()
    subject.update()
