"""The ways of training one model side by side: dense and bf16 dense, masked, sparse in bf16 and sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import torch

from regrow.core.errors import RegrowError
from regrow.lab.machine import Neighbours
from regrow.lab.memory import in_child
from regrow.lab.paired import Ratio, Task, in_turn, ratio
from regrow.lab.reasons import reasons, refused
from regrow.lab.subject import Setting, Subject, Way, memory_of
from regrow.metrics.flops import dense_flops, forward_flops

TURN, TOTAL = 0.03, 12.0
"""Seconds: of a turn of one way at least, and of all turns about."""


@dataclass(frozen=True)
class Row:
    """One way: seconds of a step with its share of an update, those seconds / dense ones, FLOPs / dense ones, and the
    peak bytes of a process that trains so."""

    way: Way
    seconds: float
    update: float | None
    against_dense: Ratio
    flops: float
    peak: int | None


@dataclass(frozen=True)
class Bench:
    """What `regrow bench` shows: rows, the dense one first; why no faster; a word if the machine was busy."""

    setting: Setting
    weights: int
    rows: list[Row]
    reasons: list[str]
    busy: str


def bench(setting: Setting, sparsities: Sequence[float]) -> Bench:
    """Measure all ways in turn in this process, their memory in one of its own each.

    Raises:
        RegrowError: the model, its input, a sparsity or the method cannot be.
    """
    setting.claim_threads()
    refusals, others = refused(setting.build())
    ways = [Way(), Way(bf16=True), Way("masked", sparsities[0])]
    if others:
        ways += [Way("sparse", s, bf16, exclude=tuple(refusals)) for bf16 in (True, False) for s in sparsities]
    last = _better_in_channels_last(setting)
    subjects = [Subject(setting, replace(way, channels_last=last)) for way in ways]
    neighbours = Neighbours()
    steps, updates = _timed(subjects)
    busy = neighbours.warning()
    full = _flops(subjects[0])
    rows = [
        Row(
            way=subject.way,
            seconds=median(step),
            update=median(update) if subject.sparsifier and setting.interval else None,
            against_dense=ratio(step, steps[0]),
            flops=_flops(subject) / full,
            peak=_peak(setting, subject.way),
        )
        for subject, step, update in zip(subjects, steps, updates, strict=True)
    ]
    return Bench(setting, subjects[0].weights, rows, reasons(subjects[-1], refusals), busy)


def _timed(subjects: Sequence[Subject]) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds per round: of a step with its share of an update, and of a step with an update."""
    tasks = [subject.step for subject in subjects]
    once = [_seconds(task) for task in tasks]
    calls = max(1, round(TURN / once[0]))
    rounds = max(7, min(21, round(TOTAL / (calls * sum(once)))))
    interval = subjects[0].setting.interval
    plain = in_turn(tasks, rounds, calls)
    if interval is None:
        return plain, plain
    with_update = in_turn([subject.update for subject in subjects], rounds)
    share = 1 / interval
    both = zip(plain, with_update, subjects, strict=True)
    return [
        [(1 - share) * a + share * b for a, b in zip(p, u, strict=True)] if subject.sparsifier else p
        for p, u, subject in both
    ], with_update


def _better_in_channels_last(setting: Setting) -> bool:
    """Is that the better memory format of dense training here? Of one colour there is no such format."""
    if len(setting.shape) != 3 or setting.shape[0] == 1:
        return False
    plain, last = (Subject(setting, Way(channels_last=last)) for last in (False, True))
    found = ratio(*in_turn([last.step, plain.step], rounds=3))
    return found.median < 1


def _seconds(task: Task) -> float:
    for _ in range(2):
        task()
    start = perf_counter()
    task()
    return perf_counter() - start


def _flops(subject: Subject) -> float:
    example = torch.zeros(1, *subject.setting.shape, device="meta")
    topology = subject.sparsifier.topology if subject.sparsifier else None
    dense = dense_flops(subject.setting.build(), example, sites=topology or ())
    return forward_flops(dense, topology.densities() if topology and subject.way.backend == "sparse" else {})


def _peak(setting: Setting, way: Way) -> int | None:
    try:
        return in_child(memory_of, setting, way).training
    except RegrowError:
        return None
