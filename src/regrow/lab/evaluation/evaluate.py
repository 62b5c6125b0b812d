"""The evaluation of one subject, as a record: plain numbers by name, what `evaluation.json` holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.lab.evaluation.analyses import analysed
from regrow.lab.evaluation.asked import Asked
from regrow.lab.evaluation.shifts import attacked, corrupted, outside
from regrow.lab.evaluation.subject import Subject
from regrow.metrics import calibration, diversity, ood, selective
from regrow.metrics.adversarial import attacks
from regrow.metrics.probabilities import ensemble
from regrow.tickets.ensemble import likeliest
from regrow.train.data.corruptions import STANDARD
from regrow.train.record import Record

FORMAT = 1
Tell = Callable[[str], None]


@dataclass(frozen=True)
class System:
    """One predictor made of the members: sum_m w_m p_m(y|x)."""

    name: str
    weights: Tensor  # [M], over members and others, which sum to 1

    def of(self, members: Tensor) -> Tensor:
        """Its probabilities [N, C] from those of all, [M, N, C]."""
        return ensemble(members, self.weights)


def evaluate(
    subject: Subject, asked: Asked | None = None, root: Path | None = None, tell: Tell = lambda words: None
) -> Record:
    """Every ticket, the mean of all, the mean weighted by validation: each on the split and on what else is asked.

    Temperature and weights are fitted on the validation split only; without one they are left out.

    Args:
        root: where the data sets are; by default $REGROW_DATA.
        tell: told what comes next.

    Raises:
        RegrowError: missing data, other shapes, predictions that are not numbers.
    """
    asked = asked or Asked()
    others = asked.outside(subject.data)
    tell(f"evaluating {subject.name} on {subject.data.name}")
    members, labels = subject.predictions(subject.data.evaluate(asked.split))
    validation = subject.predictions(subject.data.evaluate("val")) if "val" in subject.data.splits else None
    systems = _systems(subject, validation)
    records = {system.name: _clean(system, members, labels, validation) for system in systems}
    record: Record = {
        "regrow_evaluation": FORMAT,
        "subject": subject.name,
        "data": subject.data.name,
        "split": asked.split,
        "samples": len(labels),
        "members": [member.name for member in subject.members],
        "diversity": _diversity(subject, members),
        "systems": records,
    }
    for name in others:
        tell(f"against {name}")
        there, _ = subject.predictions(outside(name, subject.data, asked.split, root))
        for system in systems:
            records[system.name].setdefault("ood", {})[name] = _told_apart(system, members, there)
    if asked.corruptions:
        record["corruptions_left_out"] = _corruptions(subject, systems, records, asked, root, tell)
    if asked.adversarial:
        _adversarial(subject, systems, records, asked, tell)
    if asked.analyses:
        record["analyses"] = analysed(subject, tell)
    return record


def _systems(subject: Subject, validation: tuple[Tensor, Tensor] | None) -> list[System]:
    """Members and others alone, then the ensembles."""
    names = [member.name for member in (*subject.members, *subject.others)]
    count = len(subject.members)
    one = torch.eye(len(names), dtype=torch.float64)
    alone = [System(f"member {n}" if n.isdecimal() else n, row) for n, row in zip(names, one, strict=True)]
    if count == 1:
        return alone
    together = [System("ensemble", one[:count].mean(0))]
    if validation:
        members, labels = validation
        truth = members[:count].double().gather(2, labels.expand(count, -1)[..., None]).squeeze(2)
        together.append(System("weighted", likeliest(truth.clamp_min(1e-38).log()) @ one[:count]))
    return alone + together


def _clean(system: System, members: Tensor, labels: Tensor, validation: tuple[Tensor, Tensor] | None) -> Record:
    p = system.of(members)
    record = _plain(p, labels) | {
        "adaptive_ece": calibration.adaptive_ece(p, labels),
        "aurc": selective.aurc(p, labels),
        "accuracy_at_90": selective.accuracy_at(p, labels, 0.9),
        "weights": system.weights.tolist(),
        "temperature": None,
    }
    if validation:
        temperature = calibration.fit_temperature(system.of(validation[0]), validation[1])
        scaled = calibration.scaled(p, temperature)
        record |= {"temperature": temperature, "scaled": _plain(scaled, labels)}
    return record | {"reliability": [asdict(row) for row in calibration.reliability(p, labels)]}


def _plain(p: Tensor, labels: Tensor) -> Record:
    """The four that are reported under every shift."""
    four = (calibration.accuracy, calibration.nll, calibration.brier, calibration.ece)
    return {metric.__name__: metric(p, labels) for metric in four}


def _diversity(subject: Subject, members: Tensor) -> Record | None:
    """Of the members of the ensemble; None where there is one."""
    p = members[: len(subject.members)]
    if len(p) < 2:
        return None
    topologies = [member.topology for member in subject.members if member.topology]
    known = len(topologies) == len(p)
    return {
        "disagreement": diversity.disagreement(p),
        "kl": diversity.divergence(p),
        "overlap": diversity.overlap(topologies) if known else None,
        "overlaps": diversity.overlaps(topologies).tolist() if known else None,
        "disagreements": diversity.disagreements(p).tolist(),
        "kls": diversity.divergences(p).tolist(),
    }


def _told_apart(system: System, here: Tensor, there: Tensor) -> Record:
    """By each score; one member alone has no mutual information."""
    alone = int(system.weights.count_nonzero()) == 1
    scores = {name: score for name, score in ood.SCORES.items() if not (alone and name == "mutual_information")}
    w = system.weights
    return {name: asdict(ood.detection(score(here, w), score(there, w))) for name, score in scores.items()}


def _corruptions(
    subject: Subject, systems: list[System], records: Record, asked: Asked, root: Path | None, tell: Tell
) -> list[str]:
    """Per kind and severity, and the means over the standard kinds; returns the kinds that could not be had."""
    left_out = []
    for kind in asked.kinds:
        tell(f"under {kind}")
        for severity in asked.severities:
            batches = corrupted(kind, severity, subject.data, asked.split, root)
            if batches is None:
                left_out.append(kind)
                break
            members, labels = subject.predictions(batches)
            for system in systems:
                kinds = records[system.name].setdefault("corruption", {}).setdefault("kinds", {})
                kinds.setdefault(kind, []).append(_plain(system.of(members), labels))
    if len(left_out) == len(asked.kinds):
        raise RegrowError(
            f"inputs of shape {subject.data.shape} cannot be corrupted here, and there are no official files "
            "(CIFAR-10-C, CIFAR-100-C, ImageNet-C) in the data root: put them there, or leave out --corruptions"
        )
    for record in records.values():
        found = record["corruption"]["kinds"]
        rows = [row for kind in found if kind in STANDARD for row in found[kind]]
        if rows:
            record["corruption"] |= {key: fmean(row[key] for row in rows) for key in rows[0]}
    return left_out


def _adversarial(subject: Subject, systems: list[System], records: Record, asked: Asked, tell: Tell) -> None:
    """Every system is attacked itself, as a whole."""
    everyone = (*subject.members, *subject.others)
    for system in systems:
        own = [(w, m.predict) for w, m in zip(system.weights.tolist(), everyone, strict=True) if w > 0]

        def predict(x: Tensor, own: list[tuple[float, Any]] = own) -> Tensor:
            return torch.stack([w * one(x) for w, one in own]).sum(0)

        found: Record = {"eps": asked.eps}
        for name, attack in attacks(asked.eps).items():
            tell(f"{name} against {system.name}")
            found[name] = _plain(*attacked(attack, predict, subject.data, asked.split))
        records[system.name]["adversarial"] = found
