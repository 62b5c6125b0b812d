"""The examples in docstrings, which the API pages show, are what happens."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from blocks import ROOT

SOURCE = ROOT / "src"


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


MODULES = [name_of(path) for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_the_everyday_names_have_examples() -> None:
    assert {"regrow.sparsifier.sugar", "regrow.core.topology", "regrow.tickets.plan"} <= set(MODULES)
