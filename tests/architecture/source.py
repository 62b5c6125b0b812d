"""The source tree, parsed once."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "regrow"


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    name: str  # dotted
    lazy: bool  # inside a function
    typing: bool  # for the type checker only

    @property
    def room(self) -> str:
        """The room of ours that it imports from, or the foreign library."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "regrow" and len(parts) > 1 else parts[0]

    @property
    def ours(self) -> bool:
        return self.name.split(".")[0] == "regrow"

    @property
    def foreign(self) -> bool:
        return not self.ours and self.room not in sys.stdlib_module_names

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


@cache
def trees() -> dict[str, ast.Module]:
    """Path relative to src/regrow -> syntax tree."""
    return {
        path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def room_of(file: str) -> str:
    """core/select.py -> core; what lies beside the rooms is its own."""
    return file.split("/")[0].removesuffix(".py")


@cache
def imports() -> tuple[Import, ...]:
    return tuple(found for file, tree in trees().items() for found in _imports(file, tree, False, False))


def _imports(file: str, node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(file, child.lineno, alias.name, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno}: relative import"
            names = (f"{child.module}.{alias.name}" for alias in child.names)
            yield from (Import(file, child.lineno, name, lazy, typing) for name in names)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        yield from _imports(file, child, lazy or function, typing or checking)


@cache
def tracked() -> tuple[Path, ...]:
    """Files under version control; all of them where there is no git (an unpacked archive)."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
        files = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for path in ROOT.rglob("*") if ".git" not in path.parts]
    return tuple(path for path in files if path.is_file())
