"""The composition root: recipe and seed -> Job, the objects that the trainer takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from regrow import methods
from regrow.core.errors import RegrowError, choose
from regrow.core.rng import seed_of
from regrow.methods.base import Method
from regrow.metrics.flops import Ledger, Live, dense_flops, run_flops
from regrow.recipe import schema
from regrow.recipe.optim import optimizer_of, plan_of, scheduler_of
from regrow.recipe.schema import Recipe
from regrow.recipe.start import start_of, weights_of
from regrow.recipe.teacher import answer_of, distillation_of, with_teacher
from regrow.recipe.tweaks import FirstEpoch, tweaks_of, with_ghosts
from regrow.sparsifier import Sparsifier, sparsify
from regrow.sparsifier.start import Start
from regrow.train import data, models
from regrow.train.devices import keep_memory
from regrow.train.harvest import check_plan
from regrow.train.job import Job
from regrow.train.models.members import Members, each
from regrow.tweaks import is_ghost


def job_of(recipe: Recipe, seed: int, data_root: Path | None = None) -> Job:
    """The run of one seed, ready for `fit`. Names are checked before data is read.

    Raises:
        RegrowError: an unknown name or option, missing data, a density or a model that cannot be.
    """
    method = method_of(recipe.method) if recipe.method else None
    tweaks = tweaks_of(recipe)
    if not recipe.model.name.startswith("timm:"):
        choose(models.MODELS, recipe.model.name, "model")
    source = data.load(recipe.data.name, validation=recipe.data.validation, augment=recipe.data.augment, root=data_root)
    steps = source.steps(recipe.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("model", seed))
        model = model_of(recipe, source.shape, source.classes)
    if ticket := weights_of(recipe.topology, seed):
        ticket.apply(model)
    optimizer = optimizer_of(recipe.optimizer, model)
    plan = plan_of(recipe, steps)
    scheduler = scheduler_of(recipe, optimizer, steps, plan)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    loss = each(criterion) if isinstance(model, Members) else criterion
    if recipe.distill and isinstance(model, Members):
        raise RegrowError(
            f"distill: {recipe.model.name!r} is several networks with a loss each, and one is to learn from the "
            "teacher; take another model, or drop `distill`"
        )
    horizon = {"plan": plan} if plan else {"total_steps": recipe.total_epochs * steps}
    sparsifier = None
    if method:
        keep_memory()  # what acts before training takes as much as its steps
        start = start_of(recipe.topology, source, recipe.batch_size, loss, seed)
        batches = FirstEpoch(source, recipe.batch_size, seed)
        extra = {"tweaks": tweaks, "batches": batches, "loss": loss}
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):  # as it will be trained
            sparsifier = sparsifier_of(recipe, method, model, optimizer, start, seed, **horizon, **extra)
    job = Job(
        model=model,
        optimizer=optimizer,
        data=source,
        loss=loss,
        epochs=recipe.total_epochs,
        batch_size=recipe.batch_size,
        seed=seed,
        sparsifier=sparsifier,
        scheduler=scheduler,
        scheduler_every="step",
        evaluate_every=recipe.evaluate_every,
        threads=recipe.threads,
        flops=flops_of(recipe, model, source.shape, steps, sparsifier, seed),
        plan=plan,
        selection=recipe.plan.selection if recipe.plan else "last",
        superposition=recipe.average.build if recipe.average else None,
        reestimate=recipe.average is not None and recipe.average.batch_norm == "reestimate",
        distillation=partial(distillation_of, recipe.distill, seed, source.name, partial(_first, data_root))
        if recipe.distill
        else None,
    )
    check_plan(job)
    return job


def model_of(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The recipe's model in its memory format, for inputs of `shape`. Draws from torch's global generator.

    Raises:
        RegrowError: unknown name or option, or a shape the model cannot take.
    """
    model = models.build(recipe.model.name, shape, classes, **recipe.model.options)
    if recipe.memory_format == "channels_last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _first(data_root: Path | None, recipe: Recipe) -> Job:
    return job_of(recipe, recipe.seeds[0], data_root)


def sparsifier_of(
    recipe: Recipe, method: Method, model: nn.Module, optimizer: Optimizer, start: Start, seed: int, **rest: Any
) -> Sparsifier:
    """The recipe's method on the optimizer, from `start` on; `rest` is `total_steps` or `plan`, and for tweaks."""
    return sparsify(
        model,
        optimizer,
        method=method,
        density=recipe.density,
        **rest,
        topology=start,
        overrides=recipe.overrides or None,
        include=recipe.include,
        exclude=recipe.exclude,
        seed=seed,
        backend=recipe.backend,
    )


def flops_of(
    recipe: Recipe,
    model: nn.Module,
    shape: tuple[int, ...],
    steps_per_epoch: int,
    sparsifier: Sparsifier | None,
    seed: int,
) -> Live:
    """Of one inference and the whole run at the densities it has, beside the dense run without multiplier."""
    seen = dense_flops(model, torch.zeros(1, *shape, device="meta"), sites=sparsifier.topology if sparsifier else ())
    dense = {name: flops for name, flops in seen.items() if not is_ghost(name)}
    haunted = recipe.batch_size * sparsifier.tweaks.ghost_steps if sparsifier else 0
    ledger = Ledger(
        steps=recipe.total_epochs * steps_per_epoch,
        batch_size=recipe.batch_size,
        updates=sparsifier.timetable.updates(sparsifier.method.every) if sparsifier else 0,
        needs=sparsifier.method.needs if sparsifier else frozenset(),
    )

    answer = cache(partial(answer_of, recipe.distill, seed)) if recipe.distill else None  # counts come often

    def count() -> dict[str, float]:
        counted = run_flops(
            dense,
            sparsifier.mean_densities() if sparsifier else {},
            ledger,
            final=sparsifier.topology.densities() if sparsifier else {},
            sparse=_executed_sparse(sparsifier) if sparsifier else (),
            reference_steps=recipe.compared_epochs * steps_per_epoch,
        )
        counted = with_ghosts(counted, seen, haunted)
        return with_teacher(counted, answer(), ledger.samples) if answer else counted

    return Live(count)


def _executed_sparse(sparsifier: Sparsifier) -> Collection[str]:
    """The sites that the backend runs truly sparse."""
    if sparsifier.backend_name == "sparse":
        return sparsifier.topology
    return sparsifier.decision["sparse"] if sparsifier.decision else ()


def method_of(spec: schema.MethodSpec) -> Method:
    """The method of `spec`, with its hyper-parameters and its `every`.

    Raises:
        RegrowError: an unknown method or hyper-parameter, a value of another kind than the method's own.
    """
    own = methods.build(spec.name)
    known = {key: _checked(key, value, getattr(own, key)) for key, value in spec.options.items() if hasattr(own, key)}
    method = methods.build(spec.name, **spec.options | known)
    if spec.every is None:
        return method
    given = spec.every.model_dump(exclude_none=True)
    if method.every is None:
        raise RegrowError(f"method.every is {given}, but {spec.name!r} never updates: drop `every`.")
    timed: Method = replace(method, every=replace(method.every, **given))  # type: ignore[type-var]
    return timed


def _checked(key: str, value: Any, own: Any) -> Any:
    """`value` if it may stand where the method has `own`: a rule by its name, a schedule by its first value."""
    kinds: tuple[type, ...] = (bool,) if isinstance(own, bool) else (int, float)
    if own is None or (callable(own) and not is_dataclass(own)):
        kinds = (str,)
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(own, bool):
        raise RegrowError(f"method.{key} is {value!r}, but should be like the method's own, {_plain(own)}.")
    return value


def _plain(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)
