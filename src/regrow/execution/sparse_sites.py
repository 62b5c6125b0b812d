"""Which layers run truly sparse: the sites a SparseLinear can stand for, and one clear error for the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch.distributed as dist
from torch import nn

from regrow.core.errors import RegrowError
from regrow.execution.parts import Part
from regrow.execution.sparse_linear import SparseLinear


def layers_of(model: nn.Module, parts: Mapping[str, Part]) -> dict[str, nn.Linear]:
    """The layer behind each site.

    Raises:
        RegrowError: a site that is no Linear layer's own weight, a model off the CPU, more than one process.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise RegrowError(f"backend='sparse' trains in one process, here are {dist.get_world_size()}; use 'masked'")
    owners = _owners(model)
    found = {name: owners[id(part.parameter)] for name, part in parts.items()}
    unfit = {name: why for name, uses in found.items() if (why := _unfit(parts[name], uses))}
    if unfit:
        some = ", ".join(f"{name} ({why})" for name, why in list(unfit.items())[:3])
        raise RegrowError(
            f"backend='sparse' runs nn.Linear layers so far, and {len(unfit)} of {len(parts)} sites are none: {some}; "
            f"exclude=[{', '.join(repr(name) for name in list(unfit)[:3])}, ...] leaves them dense, or use "
            "backend='masked'"
        )
    return {name: layer for name, uses in found.items() for _, _, layer in uses if isinstance(layer, nn.Linear)}


Owner = tuple[str, nn.Module | None, nn.Module]
"""The name under which a module holds a parameter, the module around it, and itself."""


def _owners(model: nn.Module) -> dict[int, list[Owner]]:
    parents = {id(child): parent for parent in model.modules() for child in parent.children()}
    owners: dict[int, list[Owner]] = {}
    for module in model.modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append((leaf, parents.get(id(module)), module))
    return owners


def _unfit(part: Part, uses: list[Owner]) -> str:
    """Why this site cannot be a SparseLinear, or nothing."""
    leaf, parent, layer = uses[0]
    if len(uses) > 1:
        return f"shared by {len(uses)} layers"
    if type(layer) not in (nn.Linear, SparseLinear) or leaf != "weight":
        return f"{leaf} of {type(layer).__name__}"
    if isinstance(parent, nn.TransformerEncoderLayer):
        return "TransformerEncoderLayer's fused inference reads it as a matrix"
    if part.parameter.device.type != "cpu":
        return f"on {part.parameter.device}; the kernels are the CPU's"
    return ""
