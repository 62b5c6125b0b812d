"""Masks from anywhere: files, state_dicts, networks pruned by `torch.nn.utils.prune`; and back."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils.prune import custom_from_mask

from regrow.core import files
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology, parameter_of
from regrow.execution.parts import FUSED, active, grouped, locate
from regrow.tickets import file
from regrow.tickets.ticket import Ticket

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth")
PARAMETRIZED = re.compile(r"((?:.+\.)?)parametrizations\.([^.]+)\.\d+\.mask")


def read(path: Path | str) -> Topology:
    """The mask in a file: an .npz of bool arrays by weight name, a ticket, or the zeros of a state_dict (.safetensors,
    .pt), which may be that of a network pruned by `torch.nn.utils.prune`; a run's checkpoint or topology too.

    Raises:
        RegrowError: missing or damaged, or nothing in it is a mask.
    """
    path = Path(path)
    readers = {".npz": _npz, ".safetensors": _safetensors}
    try:
        return readers.get(path.suffix, _torch)(path)
    except FileNotFoundError:
        raise RegrowError(f"{path}: no such file; a mask is one of {', '.join(SUFFIXES)}") from None
    except RegrowError as error:
        raise RegrowError(f"{path}: {str(error).removeprefix(f'{path} ')}") from None
    except Exception as error:  # torch.load answers a damaged file with half a dozen kinds of exception
        reason = str(error).strip().split("\n")[0][:160]
        raise RegrowError(f"{path}: cannot be read as a mask ({type(error).__name__}: {reason})") from error


def write(topology: Topology, path: Path | str) -> None:
    """Write it as an .npz of bool arrays by weight name, whole or not at all."""
    if Path(path).suffix != ".npz":
        raise RegrowError(f"{path}: masks are written as .npz")
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: mask.cpu().numpy() for name, mask in topology.items()}
    np.savez_compressed(buffer, **arrays)
    files.write(Path(path), buffer.getbuffer())


def of_state(state: Mapping[str, Any]) -> Topology:
    """From a state_dict: the masks it carries, else the zeros of its weights.

    Carried are those of `torch.nn.utils.prune` (WEIGHT_mask beside WEIGHT_orig), of parametrizations
    (OWNER.parametrizations.WEIGHT.0.mask: sparsimony) and of a `torch.ao.pruning` sparsifier's state_dict. Prefixes of
    wrappers (DataParallel, torch.compile) are dropped. A fused projection of attention is three sites: `NAME[q]`,
    `NAME[k]`, `NAME[v]`.

    Raises:
        RegrowError: nothing is pruned.
    """
    tensors = _unwrapped({name: value for name, value in state.items() if isinstance(value, Tensor)})
    masks = _carried(tensors) or _of_sparsifier(state)
    masks = masks or {name: value for name, value in tensors.items() if value.dim() > 1 and bool((value == 0).any())}
    masks = {name: mask for name, mask in masks.items() if mask.dim() > 1}
    if not masks:
        some = ", ".join(map(str, [*state][:4])) or "nothing"
        raise RegrowError(
            f"no mask in it: none of its {len(tensors)} tensors has two or more dimensions and a zero, or a mask of "
            f"torch.nn.utils.prune (WEIGHT_orig, WEIGHT_mask) or of a parametrization; it holds {some}"
        )
    return Topology.from_masks(_by_site(masks))


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _carried(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks that lie beside the weights."""
    masks = {}
    for name, value in tensors.items():
        weight = name.removesuffix("_mask")
        if weight != name and f"{weight}_orig" in tensors:
            masks[weight] = value
        elif parametrized := PARAMETRIZED.fullmatch(name):
            masks["".join(parametrized.groups())] = value
    return masks


def _of_sparsifier(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Those of torch.ao.pruning, whose models save none: {"state": {NAME: {"mask": ...}}}."""
    inner = state.get("state")
    named = inner.items() if isinstance(inner, Mapping) else ()
    return {str(name): held["mask"] for name, held in named if isinstance(held, Mapping) and "mask" in held}


def prune(model: nn.Module, topology: Topology) -> nn.Module:
    """Put the masks on a plain model as `torch.nn.utils.prune` does; `prune.remove` makes them permanent.

    Raises:
        RegrowError: the model has other weights.
    """
    parts = locate(model, topology)
    for name, part in parts.items():
        if part.shape != topology.shape(name):
            raise RegrowError(f"{name!r} has shape {topology.shape(name)} in the topology, {part.shape} in the model")
    for mine in grouped(parts.values()):
        owner, _, leaf = parameter_of(mine[0].name).rpartition(".")
        custom_from_mask(model.get_submodule(owner), leaf, active(mine, topology))  # type: ignore[no-untyped-call]
    return model


def _npz(path: Path) -> Topology:
    with np.load(path, allow_pickle=False) as arrays:
        masks = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    wrong = [name for name, mask in masks.items() if bool(((mask != 0) & (mask != 1)).any())]
    if wrong or not masks:
        found = f"{wrong[0]!r} has other values" if wrong else "there is no array"
        raise RegrowError(f"a mask is an array of 0 and 1 by weight name, but {found}")
    return Topology.from_masks(_by_site(masks))


def _safetensors(path: Path) -> Topology:
    with safe_open(path, framework="pt") as stored:
        if file.KEY not in (stored.metadata() or {}):
            return of_state({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    return Ticket.load(path).topology


def _torch(path: Path) -> Topology:
    """A state_dict, bare or in a checkpoint; or what a run of ours has left."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("content", "sparsifier", "topology", "state_dict", "model"):
        inner = found.get(key) if isinstance(found, Mapping) else None
        found = inner if isinstance(inner, Mapping) else found
    if not isinstance(found, Mapping):
        raise RegrowError(f"no mask in it: it holds {type(found).__name__}, not a state_dict")
    return Topology.unpack(found) if {"code", "nnz", "shapes", "digest"} <= found.keys() else of_state(found)


def _by_site(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sites: dict[str, Tensor] = {}
    for name, mask in masks.items():
        fused = name.rpartition(".")[2] == "in_proj_weight"
        sites |= (
            {f"{name}[{part}]": block for part, block in zip(FUSED, mask.chunk(3), strict=True)}
            if fused
            else {name: mask}
        )
    return sites
