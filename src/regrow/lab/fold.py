"""A network for inference alone: batch normalisation that follows a layer becomes part of it."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regrow.core.errors import RegrowError
from regrow.execution.folded import folded, folds

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def without_norms(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose layers have taken in the batch normalisation after them, an nn.Identity now.

    Only where nothing else reads what the layer gives. Zeros stay zeros; the names of parameters stay too, but for the
    biases that come and the normalisations that go.

    Raises:
        RegrowError: the model's forward cannot be followed, or has no normalisation that folds.
    """
    made = copy.deepcopy(model).eval()
    pairs = _pairs(made)
    if not pairs:
        raise RegrowError("no batch normalisation of this model follows a layer directly: there is nothing to fold")
    for layer_name, norm_name in pairs:
        _fold(made.get_submodule(layer_name), made.get_submodule(norm_name))
        made.set_submodule(norm_name, nn.Identity())
    return made


def _pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Layer and normalisation, by name: each is called once, and the second alone takes what the first gives."""
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # whatever a foreign forward does with its inputs, the user gets one clear error
        raise RegrowError(f"torch.fx cannot follow the model's forward, so nothing is folded: {error}") from error
    calls = [node for node in graph.nodes if node.op == "call_module"]
    often = Counter(id(model.get_submodule(str(node.target))) for node in calls)
    found = []
    for node in calls:
        before = node.args[0] if node.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        layer, norm = (model.get_submodule(str(each.target)) for each in (before, node))
        if _fit(layer, norm) and often[id(layer)] == often[id(norm)] == 1:
            found.append((str(before.target), str(node.target)))
    return found


def _fit(layer: nn.Module, norm: nn.Module) -> bool:
    hooked = any((module._forward_hooks or module._forward_pre_hooks) for module in (layer, norm))
    return type(layer) in _LAYERS and isinstance(norm, _BatchNorm) and folds(norm) and not hooked


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    assert isinstance(norm, _BatchNorm)
    weight, bias = folded(layer.weight, layer.bias, norm)
    layer.weight = nn.Parameter(weight, layer.weight.requires_grad)
    layer.bias = nn.Parameter(bias, layer.weight.requires_grad)
