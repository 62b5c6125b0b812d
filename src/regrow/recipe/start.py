"""The `topology` block of a recipe: where the first weights are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer

from regrow.core.balance import balanced
from regrow.core.distributions import DISTRIBUTIONS
from regrow.core.errors import RegrowError, choose, nearest
from regrow.core.saliency import SALIENCIES, LossFn
from regrow.core.topology import Topology
from regrow.recipe.spec import OpenSpec, named
from regrow.sparsifier.scored import Scored
from regrow.sparsifier.start import Start
from regrow.tickets import Ticket, masks
from regrow.train.data import Data

MASK = "mask"
NAMES = (*DISTRIBUTIONS, *SALIENCIES, MASK)


class StartSpec(OpenSpec):
    """A name and its options; written as the name alone where it has none."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMES:
            close = nearest(name, NAMES) or "."
            raise ValueError(f"there is no such start{close} Valid: {', '.join(NAMES)}, or the path of a mask")
        return name

    @model_serializer(mode="wrap")
    def _short(self, fields: SerializerFunctionWrapHandler) -> Any:
        whole = fields(self)
        return self.name if whole == {"name": self.name} else whole


ERK = StartSpec(name="erk")


def opened(value: object) -> object:
    """`snip` is short for `{name: snip}`, and the path of a mask for `{name: mask, path: ...}`."""
    if isinstance(value, str) and ("/" in value or value.endswith(masks.SUFFIXES)):
        return {"name": MASK, "path": value}
    return named(value)


def start_of(spec: StartSpec, data: Data, batch_size: int, loss: LossFn, seed: int) -> Start:
    """What `sparsify` takes. A saliency scores a balanced batch of the first epoch's samples.

    Raises:
        RegrowError: an unknown option, a file that is no mask, too few samples of a class.
    """
    options = dict(spec.options)
    if spec.name == MASK:
        return mask_of(spec, seed)
    if spec.name in DISTRIBUTIONS:
        return spec.name if not options else _made(DISTRIBUTIONS[spec.name], options, {})
    saliency, shared = _saliency(spec)
    per_class = shared.pop("per_class", 10)
    batches = data.train(batch_size, seed, epoch=0)
    batch = balanced(batches, data.classes, per_class) if saliency.runs else None
    return Scored(saliency, batch, loss, **shared)


def mask_of(spec: StartSpec, seed: int) -> Topology:
    """What `{name: mask, path: ...}` names, for this seed.

    Raises:
        RegrowError: the file is not there, or is no mask.
    """
    return masks.read(_path(dict(spec.options), seed))


def check(spec: StartSpec) -> None:
    """Raises:
    RegrowError: an unknown option. Whether a mask's file is there is seen when it is read.
    """
    if spec.name == MASK:
        _path(dict(spec.options), seed=0)
    elif spec.name in DISTRIBUTIONS:
        _made(DISTRIBUTIONS[spec.name], spec.options, {})
    else:
        _saliency(spec)


def _saliency(spec: StartSpec) -> tuple[Any, dict[str, Any]]:
    """The saliency, and the options that all of them share."""
    options = dict(spec.options)
    own = {"layers": "erk", "floor": 1, "per_class": 10}
    shared = {key: options.pop(key) for key in own if key in options}
    _check(shared, own, {})
    if "layers" in shared:
        choose(DISTRIBUTIONS, shared["layers"], "topology.layers")
    return _made(SALIENCIES[spec.name], options, own), shared


def weights_of(spec: StartSpec, seed: int) -> Ticket | None:
    """The ticket whose weights the run starts with too, if the recipe says so."""
    if spec.name != MASK or not spec.options.get("weights"):
        return None
    return Ticket.load(_path(dict(spec.options), seed))


def _path(options: dict[str, Any], seed: int) -> Path:
    """`{seed}` in it stands for the run's seed: every seed its own ticket."""
    own = {"path": "masks.npz", "weights": False}
    _check(options, own, {})
    if "path" not in options:
        raise RegrowError("topology.path is missing: where the mask is, such as masks.npz")
    return Path(options["path"].replace("{seed}", str(seed)))


def _made(factory: Callable[..., Any], options: Mapping[str, Any], besides: Mapping[str, Any]) -> Any:
    own = {name: given.default for name, given in inspect.signature(factory).parameters.items()}
    _check(options, own, besides)
    return factory(**options)


def _check(options: Mapping[str, Any], own: Mapping[str, Any], besides: Mapping[str, Any]) -> None:
    """Each is known, and of the kind of the value it stands for."""
    for key, value in options.items():
        if key not in own:
            valid = [*own, *besides]
            raise RegrowError(f"topology has no option {key!r}{nearest(key, valid) or '.'} Valid: {', '.join(valid)}.")
        kinds = (int, float) if isinstance(own[key], float) else (type(own[key]),)
        if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(own[key], bool):
            raise RegrowError(f"topology.{key} is {value!r}, but should be like {own[key]!r}")
