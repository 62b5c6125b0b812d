"""Layers around sparse ones: of a class of ours while the model runs truly sparse, the same modules to all others."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from regrow.execution.lane_norms import LaneBatchNorm1d, LaneLayerNorm
from regrow.execution.sparse_attention import SparseAttention, SparseEncoder, SparseEncoderLayer
from regrow.execution.sparse_linear import SparseLinear
from regrow.execution.sparse_sites import Place

SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: LaneLayerNorm,
    nn.BatchNorm1d: LaneBatchNorm1d,
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
    changed = [module for module in model.modules() if type(module) in SWAPS]
    for module in changed:
        module.__class__ = SWAPS[type(module)]
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and (
            module in projections or isinstance(module.out_proj, SparseLinear)
        ):
            SparseAttention.take_over(module, projections.get(module, {}))
            changed.append(module)
    return changed


def give_back(changed: Iterable[nn.Module]) -> None:
    back = {ours: theirs for theirs, ours in SWAPS.items()}
    for module in changed:
        if isinstance(module, SparseAttention):
            module.leave()
        else:
            module.__class__ = back.get(type(module), type(module))
