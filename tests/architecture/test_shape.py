"""Small files, a pinned surface, a light import, nothing of one machine, classes abstract or final."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from source import ROOT, SOURCE, tracked, trees

import regrow
from regrow.methods.base import Method

PUBLIC = [
    "DISTRIBUTIONS",
    "METHODS",
    "Ensemble",
    "Every",
    "RegrowError",
    "Sparsifier",
    "Ticket",
    "Topology",
    "load",
    "sparsify",
]


def test_no_file_is_long() -> None:
    files = [SOURCE / file for file in trees()] + sorted(SOURCE.rglob("*.[ch]"))
    long = {file.name: lines for file in files if (lines := len(file.read_text().splitlines())) > 300}
    assert not long


def test_most_files_are_short() -> None:
    lengths = sorted(len((SOURCE / file).read_text().splitlines()) for file in trees())
    assert lengths[len(lengths) // 2] <= 120


def test_public_names() -> None:
    assert regrow.__all__ == PUBLIC
    assert dir(regrow) == sorted(PUBLIC)
    assert sorted(PUBLIC, key=lambda name: (not name.isupper(), name)) == PUBLIC  # ruff's order: constants first
    assert len(PUBLIC) <= 40
    for name in PUBLIC:
        assert getattr(regrow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        regrow.nonsense  # noqa: B018


HEAVY = ("torch", "sklearn", "lightning_fabric", "pydantic", "pandas", "matplotlib", "typer", "rich", "numpy")


def in_a_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout


def test_import_regrow_is_light() -> None:
    loaded = in_a_process(
        "import sys, time; t = time.perf_counter(); import regrow; print(time.perf_counter() - t); "
        "print(*{m.split('.')[0] for m in sys.modules})"
    ).splitlines()
    assert float(loaded[0]) < 1.0
    assert not set(HEAVY) & set(loaded[1].split())


def test_the_library_needs_no_trainer() -> None:
    """What a user of `sparsify` loads is torch and ours."""
    loaded = in_a_process(
        "import sys, torch; before = {*sys.modules}; import regrow; regrow.sparsify; print(*({*sys.modules} - before))"
    )
    ours = {name for name in loaded.split() if name.startswith("regrow")}
    rooms = {name.split(".")[1] for name in ours if "." in name}
    assert rooms == {"core", "methods", "execution", "sparsifier", "tweaks"}
    assert not {name.split(".")[0] for name in loaded.split()} & (set(HEAVY) - {"torch", "numpy"})


MACHINE = re.compile(r"(?<![\w.])/(?:work|tmp|root|mnt)/\w|/home/\w|[A-Z]:\\\\Users")
INDEX = re.compile(
    r"(?:index-url|extra-index-url|--find-links|proxy)[ =]+\S*//(?!download\.pytorch\.org|pypi\.org)\S+", re.I
)


def test_no_file_knows_this_machine() -> None:
    here = "tests/architecture/test_shape.py"
    wrong = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name == here or path.suffix in (".png", ".npz", ".gz", ".pt"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if MACHINE.search(line) or INDEX.search(line):
                wrong.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


EXCEPTIONS = {
    "Spec": "what every part of a recipe has in common: strict pydantic, which knows no abstract models",
    "OpenSpec": "the same for parts that pass further settings on",
    "ScheduleSpec": "a discriminated union's common fields",
    "OptimizerSpec": "a discriminated union's common fields",
    "Axes": "what a suite and each of its analyses have in common",
}
"""Classes without abstract methods that have subclasses, and why; none is ever made itself."""


def test_classes_are_abstract_or_final() -> None:
    classes = {
        node.name: node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }
    wrong = []
    for node in classes.values():
        for base in (ast.unparse(base).split("[")[0] for base in node.bases):
            if base in classes and base not in EXCEPTIONS and not is_abstract(classes[base]):
                wrong.append(f"{node.name} extends {base}, which is concrete")
    assert not wrong, "\n".join(wrong)
    made = {
        ast.unparse(node.func) for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    assert not made & EXCEPTIONS.keys()


def is_abstract(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).split("[")[0] for base in node.bases}
    decorated = any(
        "abstractmethod" in ast.unparse(d) for f in ast.walk(node) for d in getattr(f, "decorator_list", ())
    )
    return bool(bases & {"ABC", "Protocol"}) or decorated


@pytest.mark.parametrize("name", regrow.METHODS)
def test_every_method_can_be_made_is_frozen_and_carded(name: str) -> None:
    method = regrow.METHODS[name]()
    assert isinstance(method, Method)
    assert method == regrow.METHODS[name]()
    with pytest.raises(AttributeError):
        method.every = None
    assert method.needs <= {"grad", "moment", "dense_grad", "dense_moment", "explored"}
    cards = "\n".join(path.read_text() for path in (ROOT / "docs" / "methods").glob("*.md"))
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", cards), f"no card in docs/methods names {name}"
