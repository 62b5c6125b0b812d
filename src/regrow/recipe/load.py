"""YAML and `--set a.b=c` -> Recipe. Every refusal is one paragraph: file, key, value, nearest key, way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from regrow.core.errors import RegrowError, nearest
from regrow.recipe.explain import explain
from regrow.recipe.schema import Recipe


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys and reads 5e-4 as a number (YAML 1.1 reads a string)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, where: str) -> Any:
    """YAML text as plain values; `where` names it in the error."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise RegrowError(f"{where}{line}: not a recipe in YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise RegrowError(f"{where}: not a recipe in YAML: {' '.join(str(error).split())}.") from None


def override(values: dict[str, Any], setting: str) -> dict[str, Any]:
    """`values` with `a.b=c` applied; c is read as YAML, and a block written short (`method: rigl`) is opened."""
    path, equals, text = setting.partition("=")
    if not equals or not all(path.split(".")):
        raise RegrowError(f"--set {setting}: should be KEY=VALUE, such as --set optimizer.lr=0.05.")
    return put(values, path, parse(text, f"--set {setting}"), f"--set {setting}")


def put(values: Mapping[str, Any], path: str, value: Any, where: str) -> dict[str, Any]:
    """`values` with `value` at the dotted `path`; a block written short is opened. `where` is said in the error."""
    first, *rest = path.split(".", 1)
    if not rest:
        # density and sparsity are one quantity: the later word wins
        other = {"density": "sparsity", "sparsity": "density"}.get(first)
        kept = {key: value for key, value in values.items() if key != other}
        return kept | {first: value}
    block = values.get(first)
    block = {"name": block} if isinstance(block, str) else {} if block is None else block
    if not isinstance(block, dict):
        raise RegrowError(f"{where}: {first!r} holds {block!r} and has no keys; set {first}=... itself.")
    return {**values, first: put(block, rest[0], value, where)}


def recipe_of(values: Mapping[str, Any], where: str) -> Recipe:
    """Plain values as a Recipe.

    Raises:
        RegrowError: what pydantic found first, in the house's words.
    """
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise RegrowError(explain(error, where)) from None


def load(source: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """The recipe in the file `source`, or the shipped one of that name (`demo/rigl-itop`), with `settings` applied."""
    path = find(source)
    try:
        values = parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RegrowError(f"{path}: not a recipe, as it is not UTF-8 text ({error.reason}).") from None
    if not isinstance(values, dict):
        raise RegrowError(f"{path}: holds {type(values).__name__}, not the keys of a recipe such as `name`, `data`.")
    where = str(path)
    for setting in settings:
        values = override(values, setting)
        where += f" --set {setting}"
    return recipe_of(values, where)


def dump(recipe: Recipe) -> str:
    """The resolved form: every field, defaults included, as YAML that `load` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped() -> Path:
    """The folder of recipes that come with regrow: inside the wheel, or at the root of a clone."""
    inside = Path(__file__).parent / "shipped"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "recipes"


def shipped_names(suites: bool = False) -> list[str]:
    """The recipes that come with regrow; or the suites, whose files are called suite.yaml, suite-small.yaml, ..."""
    files = (path for path in sorted(shipped().rglob("*.yaml")) if path.stem.startswith("suite") == suites)
    return [file.relative_to(shipped()).with_suffix("").as_posix() for file in files]


def find(source: str | Path, suites: bool = False) -> Path:
    """The file of a recipe or a suite, given by path or by its shipped name."""
    for path in (Path(source), shipped() / f"{source}.yaml"):
        if path.is_file():
            return path
    names, what = shipped_names(suites), "suite" if suites else "recipe"
    close = nearest(str(source), names) or "."
    raise RegrowError(f"{source}: no such {what}{close} Give a .yaml file, or a shipped one: {', '.join(names)}.")
