"""Which layers run truly sparse: what a SparseLayer can stand for, and one clear error for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.distributed as dist
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from regrow.core.errors import RegrowError
from regrow.execution.parts import Part, grouped
from regrow.execution.sparse_conv import SparseConv2d
from regrow.execution.sparse_layer import SparseLayer
from regrow.execution.sparse_linear import SparseLinear
from regrow.execution.stand_in import empty

KINDS: dict[type[nn.Module], type[SparseLayer]] = {
    nn.Linear: SparseLinear,
    NonDynamicallyQuantizableLinear: SparseLinear,
    nn.Conv2d: SparseConv2d,
}
"""What a layer of exactly this class becomes."""

_IN_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Place:
    """A layer that runs sparse, and the sites that are its rows. If it is an input projection of `attention`, that
    holds its weight under the name `leaf`, and the layer itself is in no module."""

    layer: nn.Module
    parts: tuple[Part, ...]
    leaf: str
    attention: nn.MultiheadAttention | None = None


def places_of(model: nn.Module, parts: Mapping[str, Part]) -> list[Place]:
    """The layers behind the sites.

    Raises:
        RegrowError: a site that is no weight of a Linear or Conv2d layer or of attention, a model off the CPU, many
            processes.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise RegrowError(f"backend='sparse' trains in one process, here are {dist.get_world_size()}; use 'masked'")
    owners = _owners(model)
    unfit = {name: why for name, part in parts.items() if (why := _unfit(part, owners[id(part.parameter)]))}
    if unfit:
        some = ", ".join(f"{name} ({why})" for name, why in list(unfit.items())[:3])
        raise RegrowError(
            f"backend='sparse' runs nn.Linear, nn.Conv2d and nn.MultiheadAttention layers so far, and {len(unfit)} of "
            f"{len(parts)} sites are none: {some}; exclude=[{', '.join(map(repr, list(unfit)[:3]))}, ...] leaves them "
            "dense, or use backend='masked'"
        )
    return [_place(tuple(mine), owners[id(mine[0].parameter)]) for mine in grouped(parts.values())]


def sparse_kind(layer: nn.Module) -> type[SparseLayer]:
    return KINDS[type(layer)]


Owner = tuple[str, nn.Module, nn.Module | None]
"""The name under which a module holds a parameter, the module, and the one around it."""


def _owners(model: nn.Module) -> dict[int, list[Owner]]:
    around = {id(child): parent for parent in model.modules() for child in parent.children()}
    owners: dict[int, list[Owner]] = {}
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((leaf, module, around.get(id(module))))
    return owners


def _unfit(part: Part, owners: list[Owner]) -> str:
    """Why this site cannot run sparse, or nothing."""
    leaf, layer, parent = owners[0]
    if len(owners) > 1:
        return f"shared by {len(owners)} layers"
    ours = leaf == "weight" and (type(layer) in KINDS or isinstance(layer, SparseLayer))
    if not ours and not (type(layer) is nn.MultiheadAttention and leaf in _IN_PROJECTIONS):
        return f"{leaf} of {type(layer).__name__}"
    for kind in (nn.MultiheadAttention, nn.TransformerEncoderLayer):
        if isinstance(parent, kind) and type(parent) is not kind:
            return f"{type(parent).__name__} may read it as a matrix, as {kind.__name__} does"
    if part.parameter.device.type != "cpu":
        return f"on {part.parameter.device}; the kernels are the CPU's"
    return ""


def _place(parts: tuple[Part, ...], owners: list[Owner]) -> Place:
    leaf, owner, _ = owners[0]
    if not isinstance(owner, nn.MultiheadAttention):
        return Place(owner, parts, leaf)
    layer = empty(nn.Linear)
    nn.Module.__init__(layer)
    layer.weight = parts[0].parameter
    layer.register_parameter("bias", owner.in_proj_bias if leaf == "in_proj_weight" else None)
    layer.out_features, layer.in_features = layer.weight.shape
    return Place(layer, parts, leaf, owner)
