"""Layers around sparse ones: of a class of ours while the model runs truly sparse, the same modules to all others."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

from torch import nn

from regrow.execution.fused import fused, is_branch
from regrow.execution.lane_calls import listening
from regrow.execution.lane_layers import (
    GroupedConv2d,
    LaneAdaptiveAvgPool2d,
    LaneAdaptiveMaxPool2d,
    LaneAvgPool2d,
    LaneConv2d,
    LaneGroupNorm,
    LaneLinear,
    LaneMaxPool2d,
    LaneUpsample,
    RowConv2d,
)
from regrow.execution.lane_norms import LaneBatchNorm1d, LaneBatchNorm2d, LaneLayerNorm
from regrow.execution.sparse_attention import SparseAttention, SparseEncoder, SparseEncoderLayer
from regrow.execution.sparse_conv import SparseConv2d
from regrow.execution.sparse_linear import SparseLinear
from regrow.execution.sparse_sites import Place
from regrow.execution.stand_in import plain

SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: LaneLayerNorm,
    nn.BatchNorm1d: LaneBatchNorm1d,
    nn.BatchNorm2d: LaneBatchNorm2d,
    nn.GroupNorm: LaneGroupNorm,
    nn.MaxPool2d: LaneMaxPool2d,
    nn.AvgPool2d: LaneAvgPool2d,
    nn.AdaptiveAvgPool2d: LaneAdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d: LaneAdaptiveMaxPool2d,
    nn.Upsample: LaneUpsample,
    nn.TransformerEncoderLayer: SparseEncoderLayer,
    nn.TransformerEncoder: SparseEncoder,
}
"""What a module of exactly this class becomes."""


def take_over(model: nn.Module, places: Iterable[Place] = ()) -> list[nn.Module]:
    """Make the layers around sparse ones keep lanes, and read no weight as a matrix; those changed, for `give_back`."""
    projections: dict[nn.MultiheadAttention, dict[str, SparseLinear]] = {}
    for place in places:
        if place.attention is not None and isinstance(place.layer, SparseLinear):
            projections.setdefault(place.attention, {})[place.leaf] = place.layer
    swaps = _known(model)
    swaps |= _around_convolutions(model, swaps)
    changed = [*swaps]
    for module, kind in swaps.items():
        module.__class__ = kind
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and (
            module in projections or isinstance(module.out_proj, SparseLinear)
        ):
            SparseAttention.take_over(module, projections.get(module, {}))
            changed.append(module)
    return changed


def take_in(module: nn.Module) -> list[nn.Module]:
    """The same for what comes into such a model for a while."""
    swaps = _known(module)
    for each, kind in swaps.items():
        each.__class__ = kind
    return [*swaps]


def _known(model: nn.Module) -> dict[nn.Module, type[nn.Module]]:
    found = {module: kind for module in model.modules() if (kind := SWAPS.get(type(module)) or fused(module))}
    beside = [layer for module in found if is_branch(module) for layer in module.children()]
    return found | {layer: kind for layer in beside if (kind := _beside(layer))}


def _beside(layer: nn.Module) -> type[nn.Module] | None:
    """What a dense layer that runs beside a sparse one becomes."""
    if type(layer) is nn.Conv2d:
        return GroupedConv2d if layer.groups > 1 else LaneConv2d
    return LaneLinear if type(layer) is nn.Linear else None


def _around_convolutions(model: nn.Module, known: Container[nn.Module]) -> dict[nn.Module, type[nn.Module]]:
    """What is, in a model with sparse convolutions, to become of the dense ones, and of modules that call functions."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module not in known]
    if not any(isinstance(layer, SparseConv2d) for layer in layers):
        return {}
    others = (module for module in model.modules() if module not in known and not isinstance(module, nn.Conv2d))
    return {module: kind for module in others if (kind := listening(module))} | _dense(layers)


def _dense(layers: Sequence[nn.Conv2d]) -> dict[nn.Module, type[nn.Module]]:
    """Of the dense ones among these, what the next one in the model wants is what each gives; in groups, what it
    gets."""
    grouped = [layer for layer in layers if type(layer) is nn.Conv2d and layer.groups > 1]
    following = pairwise([*(layer for layer in layers if layer not in grouped), None])
    return dict.fromkeys(grouped, GroupedConv2d) | {
        layer: LaneConv2d if isinstance(after, SparseConv2d) else RowConv2d
        for layer, after in following
        if type(layer) is nn.Conv2d
    }


def give_back(changed: Iterable[nn.Module]) -> None:
    for module in changed:
        if isinstance(module, SparseAttention):
            module.leave()
        else:
            module.__class__ = plain(type(module))
