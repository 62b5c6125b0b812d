"""`sparsify`: the one line a user adds."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from numbers import Real
from typing import Any

from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from regrow.core.errors import RegrowError
from regrow.core.patterns import UNSTRUCTURED, Pattern
from regrow.core.saliency import Batch, LossFn
from regrow.core.schedules import Every
from regrow.methods import build, tuned
from regrow.methods.base import Method
from regrow.sparsifier.scored import Scored
from regrow.sparsifier.shell import Sparsifier
from regrow.sparsifier.start import Start, called
from regrow.sparsifier.timetable import Period
from regrow.tweaks.base import Tweak
from regrow.tweaks.life import Tweaks


def sparsify(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    method: str | Method = "rigl",
    density: float | None = None,
    sparsity: float | None = None,
    total_steps: int = 0,
    plan: Sequence[Period] = (),
    topology: Start = "erk",
    batch: Batch | None = None,
    loss: LossFn = cross_entropy,
    tweaks: Sequence[str | Tweak] = (),
    batches: Iterable[Batch] | None = None,
    every: int | Every | None = None,
    overrides: Mapping[str, float] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    pattern: Pattern = UNSTRUCTURED,
    seed: int = 0,
    backend: str = "masked",
    **hyper: Any,
) -> Sparsifier:
    """Make a model sparse, from its next training step on. The training loop stays as it is.

    Args:
        model: any module; weights of Linear, convolution and attention layers become sparse.
        optimizer: any element-wise torch optimizer over its parameters.
        method: a name from `regrow.METHODS`, or a Method.
        density: share of weights kept, in (0, 1]; or give `sparsity`, the share removed.
        total_steps: optimizer steps of the whole run: epochs * len(loader); or give a `plan`.
        plan: phases, as `regrow.tickets.plan` makes them (EDST, Sup-tickets, ...), each a horizon of its own.
        topology: "erk", "er", "uniform", a distribution, "snip", "grasp", "synflow", "taylor" (scored on `batch`),
            "magnitude" (a trained model's largest), "random", a `Scored`, "built" (that of SparseLinear layers), a
            Topology.
        batch: (inputs, targets) that weights are scored on, ten of each class or more; synflow looks at the shape.
        loss: (outputs, targets) -> the loss they are scored by, and tweaks look at.
        tweaks: names from `regrow.tweaks.TWEAKS`, or tweaks: ToST's changes of training, gone in time. Train by
            `sparsifier.loss(loss_fn)`, for those that change the loss.
        batches: some (inputs, targets) of the training set, for tweaks that look at data; a list, or a DataLoader.
        every: steps between updates (an int keeps the method's window), instead of the method's own.
        overrides: densities by name pattern, as {"fc.weight": .5}; the other layers pay for them.
        include, exclude: patterns for the parameters that are sparse.
        pattern: which supports are legal.
        seed: all randomness is a function of (seed, step, site name).
        backend: how the topology is executed: "masked" (dense arithmetic), "sparse" (only what exists is computed), or
            "auto": layer by layer what is faster, measured in the first training step.
        **hyper: hyper-parameters of the method (`regrow show METHODS`), as fraction=.5 or grow="random".

    Returns:
        The sparsifier: `.topology`, `.exploration_rate`, `.summary()`, `.state_dict()`, `.finalize()`.

    Raises:
        RegrowError: a setup under which sparse training would fail or silently do nothing.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> sparsifier = sparsify(model, optimizer, density=0.2, total_steps=1000)
    >>> sparsifier.topology
    Topology(2 sites, 44 of 220 weights, density 0.2)
    >>> int(model[0].weight.count_nonzero() + model[2].weight.count_nonzero())
    44
    """
    for name, value in {"density": density, "sparsity": sparsity}.items():
        if not isinstance(value, Real | None):
            raise RegrowError(f"{name}={value!r} is no number; it is a share of weights, as .1")
    if density is not None and sparsity is not None:
        raise RegrowError(f"density={density:g} and sparsity={sparsity:g} say the same thing; give one")
    if sparsity is not None:
        if not 0.0 <= sparsity < 1.0:
            raise RegrowError(f"sparsity {sparsity:g} is outside [0, 1); it is the share of weights removed")
        density = round(1.0 - sparsity, 12)  # .9 and .1 say the same thing, also to a checkpoint
    _refuse_misspelt(hyper)
    start = called(topology)
    if batch is not None:
        if not isinstance(start, Scored):
            raise RegrowError(
                f"batch=... is what weights are scored on, but topology={topology!r} scores none; drop it"
            )
        start = replace(start, batch=batch, loss=loss)
    if not isinstance(method, str | Method):
        raise RegrowError(f"method={method!r} is neither a name from regrow.METHODS nor a Method")
    chosen = build(method, **hyper) if isinstance(method, str) else tuned(method, type(method).__name__, hyper)
    return Sparsifier(
        _timed(chosen, every),
        density,
        total_steps,
        plan=plan,
        topology=start,
        overrides=overrides,
        include=include,
        exclude=exclude,
        pattern=pattern,
        seed=seed,
        backend=backend,
        tweaks=Tweaks(tweaks, batches, loss),
    ).attach(model, optimizer)


def _refuse_misspelt(hyper: Mapping[str, Any]) -> None:
    """A slip in one of sparsify's own words is not a hyper-parameter of the method."""
    for key in hyper:
        close = get_close_matches(key, inspect.signature(sparsify).parameters, n=1, cutoff=0.8)
        if close:
            raise RegrowError(f"sparsify has no parameter {key!r}; did you mean {close[0]!r}?")


def _timed(method: Method, every: int | Every | None) -> Method:
    if every is None:
        return method
    if method.every is None:
        raise RegrowError(f"every={every}: {type(method).__name__} never updates")
    if not isinstance(every, int | Every):
        raise RegrowError(f"every={every!r} is neither a whole number of steps nor an Every")
    timing = replace(method.every, interval=every) if isinstance(every, int) else every
    timed: Method = replace(method, every=timing)  # type: ignore[type-var]
    return timed
