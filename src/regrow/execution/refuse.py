"""Refusals: setups under which masking would silently do nothing or harm. One clear error each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from regrow.core.errors import RegrowError
from regrow.execution.optimizers import check_moment, fresh_state, group_of
from regrow.execution.shards import is_sharded, unfit
from regrow.execution.sparse_attention import SparseAttention
from regrow.execution.sparse_layer import SparseLayer


def unwrap_model(model: nn.Module) -> nn.Module:
    """The plain model inside DistributedDataParallel, DataParallel, `torch.compile` or Fabric.

    Raises:
        RegrowError: FSDP1 flattens parameters, so masks and weights would part.
    """
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise RegrowError(f"model: {kind} is not a torch.nn.Module")
    if "FullyShardedDataParallel" in kind:
        raise RegrowError(
            f"{kind} (FSDP1) flattens parameters, which masks cannot follow; use torch.distributed.fsdp.fully_shard "
            "(FSDP2) or DistributedDataParallel"
        )
    inner: Any = getattr(model, "_orig_mod", None)
    if inner is None and kind in ("DistributedDataParallel", "DataParallel", "_FabricModule"):
        inner = model.module
    return unwrap_model(inner) if isinstance(inner, nn.Module) else model


def unwrap_optimizer(optimizer: object) -> Optimizer:
    """The torch optimizer inside Fabric's, Lightning's or Accelerate's wrapper."""
    inner: Any = getattr(optimizer, "optimizer", None) or getattr(optimizer, "_optimizer", None)
    if isinstance(inner, Optimizer) and inner is not optimizer:
        return unwrap_optimizer(inner)
    if not isinstance(optimizer, Optimizer):
        raise RegrowError(f"optimizer: {type(optimizer).__name__} is not a torch.optim.Optimizer")
    return optimizer


def refuse_module(name: str, owner: nn.Module) -> None:
    """Refuses a layer that another sparsifier holds, or whose weight is computed from other tensors."""
    if isinstance(owner, SparseLayer) and owner.held:
        raise RegrowError(f"{f'{name}.weight'!r} is sparse already; finalize() the sparsifier it is under first")
    for leaf in owner.projections if isinstance(owner, SparseAttention) else ():
        raise RegrowError(f"{f'{name}.{leaf}'!r} is sparse already; finalize() the sparsifier it is under first")
    own = {key for key, _ in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))}
    if parametrize.is_parametrized(owner) or {"weight_g", "weight_v"} <= own or {"weight_orig", "weight_u"} <= own:
        raise RegrowError(
            f"{name!r} is parametrized (weight_norm, spectral_norm, ...), so its weight is made anew in each forward "
            "pass; torch.nn.utils.parametrize.remove_parametrizations it first, or exclude it"
        )
    if {"weight_orig", "weight_mask"} <= own:
        raise RegrowError(
            f"{name!r} is pruned by torch.nn.utils.prune; call prune.remove and start from its zeros with "
            "topology=regrow.Topology.of(model.state_dict())"
        )


def refuse_signals(needs: frozenset[str], weights: Iterable[nn.Parameter], optimizer: Optimizer) -> None:
    """Refuses a method that reads what could not be there for these weights, before any of them is touched."""
    for weight in weights:
        if weight.is_meta:
            raise RegrowError("the model is on the meta device and its weights have no values yet; initialise it first")
        if "dense_moment" in needs:
            if is_sharded(weight):
                raise RegrowError(
                    "this method keeps a dense momentum of every weight, which FSDP2 does not shard; take 'rigl' or "
                    "'set', or DistributedDataParallel"
                )
        elif "moment" in needs and (group := group_of(optimizer, weight)) is not None:
            check_moment(optimizer, fresh_state(optimizer, group))


def refuse_lazy(model: nn.Module) -> None:
    """Refuses a model some of whose parameters have no shape yet."""
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise RegrowError(f"{name!r} is lazy and has no shape yet; run one forward pass before sparsify")


def refuse_weight(name: str, parameter: nn.Parameter) -> None:
    """Refuses weights that are sharded, quantised or not real numbers."""
    kind = type(parameter.data).__name__
    if why := unfit(parameter):
        raise RegrowError(
            f"{name!r} is a DTensor {why}; masks follow rows sharded over one dimension of the mesh, as fully_shard "
            "does"
        )
    if not parameter.dtype.is_floating_point or kind not in ("Tensor", "Parameter", "DTensor"):
        raise RegrowError(
            f"{name!r} is a {kind} of {parameter.dtype}: quantised weights cannot be trained sparsely; exclude it"
        )


def refuse_quantised(model: nn.Module) -> None:
    """Refuses models with quantised layers: their weights are no parameters and would be passed over."""
    for name, module in model.named_modules():
        if "quantized" in type(module).__module__ and "weight" in dir(module):
            raise RegrowError(
                f"{name!r} is a quantised {type(module).__name__}; sparsify the float model before quantising it"
            )


def step_was_skipped(optimizer: Optimizer) -> bool:
    """Did GradScaler find an inf, so that a fused optimizer's step (whose hooks fire all the same) changed nothing?"""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.item())
