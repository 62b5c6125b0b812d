"""pydantic's errors in the house's words: one paragraph with the key path, the value, the nearest key, the way out."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from regrow.core.errors import nearest
from regrow.recipe.schema import Recipe


def explain(error: ValidationError, where: str, root: type[BaseModel] = Recipe) -> str:
    """The first thing wrong (unknown keys first: they are most often the cause of the rest) and how many follow."""
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first, more = found[0], len({_walk(e["loc"], root)[0] for e in found}) - 1
    tail = f" ({more} more after this one.)" if more else ""
    return f"{where}: {_sentence(first, root)}{tail}"


def _sentence(error: ErrorDetails, root: type[BaseModel]) -> str:
    path, block, field = _walk(error["loc"], root)
    kind, value = error["type"], error["input"]
    takes = f" ({field.description})" if field and field.description else ""
    if kind == "extra_forbidden":
        valid = [*block.model_fields, *(["sparsity"] if block is Recipe else [])]
        close = nearest(str(error["loc"][-1]), valid) or "."
        return f"unknown key `{path}` (value {value!r}){close} Valid here: {', '.join(valid)}."
    if kind == "missing":
        return f"`{path}` is missing{takes}."
    if kind == "union_tag_invalid":
        tag, names = error["ctx"]["tag"], error["ctx"]["expected_tags"]
        close = nearest(tag, [name.strip("' ") for name in names.split(",")]) or "."
        return f"`{path}.name` is {tag!r}{close} Valid: {names}."
    if kind in ("model_type", "union_tag_not_found", "model_attributes_type"):
        return f"`{path}` is {value!r}, but should be a name or a block with a name{takes}."
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"`{path}` is {value!r}, but {message}{takes}." if path else f"{message}."


_KINDS = ("int", "float", "constrained-", "tuple[")  # of a value that may be one of several


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The recipe blocks an annotation may hold."""
    if get_origin(annotation) is Annotated:
        return _blocks(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [block for part in get_args(annotation) for block in _blocks(part)]
    if get_origin(annotation) is dict:
        return _blocks(get_args(annotation)[1])
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _tags(block: type[BaseModel]) -> tuple[Any, ...]:
    """The literal names that choose this block in a union."""
    return get_args(block.model_fields["name"].annotation) if "name" in block.model_fields else ()


def _chosen(part: str, block: type[BaseModel]) -> bool:
    """Whether this part of a path is pydantic's word for the block, in a union, and nothing that the user wrote."""
    return part in _tags(block) or part == block.__name__ or part.endswith(f", {block.__name__}]")


def _walk(loc: tuple[int | str, ...], root: type[BaseModel]) -> tuple[str, type[BaseModel], FieldInfo | None]:
    """What the user wrote (`optimizer.lr`, `schedule.at.0`, no union tags), the block that holds it, and its field."""
    keys: list[str] = []
    block = root
    field: FieldInfo | None = None
    options = [root]
    named = False  # the next part is a name that the user gave, in a table of blocks
    for part in map(str, loc):
        tagged = [option for option in options if _chosen(part, option)]
        if tagged:
            options = tagged
        elif named:
            named = False
            keys.append(part)
        elif options:
            block = next((o for o in options if part in o.model_fields), options[0])
            field = block.model_fields.get(part)
            options = _blocks(field.annotation) if field else []
            named = field is not None and get_origin(field.annotation) is dict
            keys.append(part)
        elif not part.startswith(_KINDS):
            keys.append(part)
    return ".".join(keys), block, field
