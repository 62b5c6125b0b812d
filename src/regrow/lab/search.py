"""Search for hyper-parameters with Optuna: trials are ordinary runs of a suite, and a journal remembers them."""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

from regrow.core.errors import RegrowError
from regrow.core.rng import seed_of
from regrow.recipe.search import Range, SearchSpec
from regrow.recipe.suite import Entry, Search, Values
from regrow.train import record

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

    from regrow.lab.suite import Course, Tell, Workplace


def look(course: Course, search: Search, place: Workplace, tell: Tell) -> None:
    """Bring the search's trials to their number. Those that a kill has interrupted go on first.

    What a trial tries is a function of its number and of what the trials before it gave, so that a search in one
    worker does not depend on where it was interrupted.
    """
    study = _study(course, search)
    from optuna.trial import TrialState

    for past in study.trials:
        course.add(search.entries(_point(past.params)), failed=past.state == TrialState.FAIL)
    interrupted = {past.number: _point(past.params) for past in study.trials if not past.state.is_finished()}
    at_a_time = max(1, place.workers // len(search.seeds))
    while trials := interrupted or _asked(study, search.spec, at_a_time):
        interrupted = {}
        runs = {number: search.entries(point) for number, point in trials.items()}
        entries = [entry for several in runs.values() for entry in several]
        course.add(entries)
        course.train(entries, place, tell)
        for number, several in runs.items():
            values = [value for entry in several if (value := _value(course, entry, search.spec)) is not None]
            if len(values) == len(several):
                study.tell(number, fmean(values))
            else:
                study.tell(number, state=TrialState.FAIL)


def best(course: Course, search: Search) -> tuple[Values, float] | None:
    """The best point so far and its objective, mean over seeds; None before a trial has ended well."""
    study = _study(course, search)
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        return None
    return _point(study.best_params), study.best_value


def _study(course: Course, search: Search) -> Study:
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError:
        raise RegrowError("a `search` needs Optuna: pip install 'regrow[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = course.folder.search(search.name)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
        study_name=search.name,
        direction="minimize" if search.spec.objective == "val_loss" else "maximize",
        load_if_exists=True,
    )


def _asked(study: Study, spec: SearchSpec, at_a_time: int) -> dict[int, Values]:
    """Number -> point of the next trials, none when there are as many as asked for."""
    from optuna.samplers import TPESampler

    points: dict[int, Values] = {}
    for number in range(len(study.trials), min(spec.trials, len(study.trials) + at_a_time)):
        study.sampler = TPESampler(seed=seed_of("search", number) % 2**32)
        trial = study.ask({key: _distribution(where) for key, where in spec.over.items()})
        points[trial.number] = _point(trial.params)
    return points


def _distribution(where: Range | tuple[Any, ...]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(where, Range):
        return CategoricalDistribution([json.dumps(choice) for choice in where])
    if where.whole:
        return IntDistribution(int(where.low), int(where.high), log=where.log, step=int(where.step or 1))
    return FloatDistribution(float(where.low), float(where.high), log=where.log, step=where.step)


def _point(parameters: Values) -> Values:
    """Choices are remembered as JSON, as they may be blocks."""
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in parameters.items()}


def _value(course: Course, entry: Entry, spec: SearchSpec) -> float | None:
    run = course.run_of(entry)
    return record.read_json(run.result)[spec.objective] if run.finished else None
