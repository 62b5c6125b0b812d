"""What is measured of a cell besides its accuracy, of every predictor in it: calibration, shifts, attacks, others."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, Strict

from regrow.core.errors import RegrowError
from regrow.lab.evaluation import Asked, Subject, evaluate
from regrow.recipe.schema import Names
from regrow.recipe.spec import Spec
from regrow.train.data.tensors import TensorData

Record = dict[str, Any]
DIGITS = 6


class Measures(Spec):
    """Clean and out-of-distribution numbers are of all test images, the others of the first `images`.

    Args:
        ood: data sets told apart by 1 - max p.
        images: how many are corrupted and attacked.
        kinds, severities: of corruptions; means over both.
    """

    ood: Names = ()
    images: int = Field(gt=0)
    kinds: Names = ()
    severities: Annotated[tuple[int, ...], Strict(False)] = (1, 2, 3, 4, 5)


def measured(subject: Subject, measures: Measures) -> Record:
    """`systems`: name -> measure -> number; `system`, the one that the cell stands for; that one's numbers."""
    whole = evaluate(_on(subject, None), Asked(ood=measures.ood))
    asked = Asked(
        corruptions=bool(measures.kinds), kinds=measures.kinds, severities=measures.severities, adversarial=True
    )
    part = evaluate(_on(subject, measures.images), asked)
    systems = {name: _flat(record, part["systems"][name]) for name, record in whole["systems"].items()}
    system = next((name for name in ("superposed", "ensemble") if name in systems), next(iter(systems)))
    apart = whole["diversity"] or {}
    diversity = {name: apart[name] for name in ("disagreement", "kl", "overlap") if name in apart}
    return {"system": system, **systems[system], "systems": systems, "diversity": diversity or None}


def _flat(clean: Record, shifted: Record) -> Record:
    found = {f"test_{name}": clean[name] for name in ("accuracy", "nll", "ece")}
    if "corruption" in shifted:
        found |= {f"corrupted_{name}": shifted["corruption"][name] for name in ("accuracy", "nll", "ece")}
    found |= {f"{attack}_accuracy": shifted["adversarial"][attack]["accuracy"] for attack in ("fgsm", "pgd")}
    found |= {f"auroc_{name}": scores["max_probability"]["auroc"] for name, scores in clean.get("ood", {}).items()}
    return {name: round(value, DIGITS) for name, value in found.items()}


def _on(subject: Subject, images: int | None) -> Subject:
    """The subject on the first test images, without a validation split: nothing is fitted here."""
    data = subject.data
    if not isinstance(data, TensorData):
        raise RegrowError(f"{data.name!r} is not held in memory: a study takes its first images, so it should be")
    inputs, labels = data.parts["test"]
    rest = {name: part for name, part in data.parts.items() if name == "train"}
    return replace(subject, data=replace(data, parts=rest | {"test": (inputs[:images], labels[:images])}))
