"""Compact: dense tensors of a sparse model as what they hold, bit for bit: values where weights exist, and the rest."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from regrow.core import packing, positions
from regrow.core.topology import Shape, Topology
from regrow.execution.held import held_state, load_held
from regrow.execution.parts import active, grouped, locate

__all__ = ["Survivors", "compact", "expand", "held_state", "load_held", "survivors"]

_KEYS = {"values", "elsewhere", "negative", "signs", "stride"}


class Survivors(NamedTuple):
    """What exists in a dense parameter: ascending flat positions [n], and its shape."""

    at: Tensor
    shape: Shape


def survivors(model: nn.Module, topology: Topology) -> dict[str, Survivors]:
    """Of every dense parameter with sparse parts. Sparse layers hold only what survives, so they are not among them."""
    found: dict[int, Survivors] = {}
    for parts in grouped(part for part in locate(model, topology).values() if part.built is None):
        exists, parameter = active(parts, topology), parts[0].parameter
        found[id(parameter)] = Survivors(positions.where(exists.flatten().cpu()), tuple(parameter.shape))
    return {name: found[id(p)] for name, p in model.named_parameters(remove_duplicate=False) if id(p) in found}


def compact(held: Any, alive: Survivors) -> Any:
    """A tensor of the parameter's shape without what is the same wherever no weight exists. `expand` gives it back.

    Zeros of either sign count as the same, and the signs are kept: gradients under a mask have both. Anything else, and
    a tensor that differs elsewhere, stays as it is.
    """
    if not isinstance(held, Tensor) or held.shape != alive.shape or held.numel() == alive.at.numel():
        return held
    at, flat = alive.at.to(held.device), held.detach().reshape(-1)
    elsewhere = flat[positions.absent(at, at.new_zeros(1))]
    rest = flat.index_fill(0, at, float(elsewhere))
    if not bool((rest == elsewhere).all()):
        return held
    negative = positions.where(rest.signbit() != elsewhere.signbit())
    return {
        "values": flat[at],
        "elsewhere": float(elsewhere),
        "negative": packing.pack(negative, flat.numel()),
        "signs": negative.numel(),
        "stride": list(held.stride()),
    }


def expand(held: Any, alive: Survivors) -> Any:
    """What `compact` was given."""
    if not isinstance(held, dict) or held.keys() != _KEYS:
        return held
    whole: Tensor = held["values"].new_full(alive.shape, held["elsewhere"])
    flat = whole.view(-1)
    flat[packing.unpack(held["negative"], held["signs"], flat.numel())] = -held["elsewhere"]
    flat[alive.at] = held["values"]
    return whole.new_empty_strided(alive.shape, held["stride"]).copy_(whole)
