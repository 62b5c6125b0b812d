"""One card per method, tweak and plan, all with the same heads, none with a hyper-parameter left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from regrow.methods import METHODS
from regrow.recipe.plans import AnyPlan
from regrow.tweaks import TWEAKS

DOCS = Path(__file__).parents[2] / "docs"
HEADS = ["Idea", "When to use", "Hyper-parameters", "Cost", "Fidelity", "Results"]


def of_fields(made: Any) -> set[str]:
    return {field.name for field in fields(made) if field.init}


PLANS = {plan.model_fields["name"].annotation: plan for plan in get_args(get_args(AnyPlan)[0])}
PLANS_BY_NAME = {get_args(kind)[0]: plan.model_fields.keys() - {"name"} for kind, plan in PLANS.items()}
HYPER: dict[str, Mapping[str, set[str]]] = {
    "methods": {name: of_fields(make()) for name, make in METHODS.items()},
    "tweaks": {name: of_fields(kind) for name, kind in TWEAKS.items()},
    "plans": {name: set(keys) for name, keys in PLANS_BY_NAME.items()},
}
ENTRIES = [(kind, name) for kind, names in HYPER.items() for name in names]


def cards(kind: str) -> dict[str, str]:
    """Name -> the text of its card; a card may serve several names, its title lists them."""
    found = {}
    for path in sorted((DOCS / kind).glob("*.md")):
        text = path.read_text(encoding="utf-8")
        found |= dict.fromkeys(text.splitlines()[0].removeprefix("# ").split(", "), text)
    return found


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_of_a_table_has_a_whole_card(kind: str, name: str) -> None:
    card = cards(kind).get(name)
    assert card is not None, f"docs/{kind} has no card whose title names {name}"
    assert re.findall(r"^## (.*)$", card, re.M) == HEADS
    sections = re.split(r"^## .*$", card, flags=re.M)[1:]
    assert all(section.strip() for section in sections), "a section is empty"
    table = [line for line in sections[2].splitlines() if line.startswith("|")]
    assert table[0].split("|")[-2].strip() == "tested"
    named = {word for line in table for word in re.findall(r"`([\w-]+)`", line.split("|")[1])}
    missing = HYPER[kind][name] - named
    assert not missing, f"the card of {name} says nothing of {sorted(missing)}"


@pytest.mark.parametrize("kind", HYPER)
def test_every_card_is_listed(kind: str) -> None:
    index = (DOCS / kind / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([\w-]+)$", index.partition("{toctree}")[2], re.M))
    assert {path.stem for path in (DOCS / kind).glob("*.md")} - {"index"} == listed
