"""A ticket as a file: safetensors (no code runs), positions packed, a checksum over everything.

Tensors: every entry of `Ticket.state`; for each site its positions as `positions:SITE`, in the code of `core.packing`.
Metadata: the format, the sites' shapes, the ticket's words, the tied names, and SHA-256 over that and all tensors.
"""

from __future__ import annotations

import json
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from regrow.core import files, packing
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.tickets.ticket import Ticket

FORMAT, KEY = 1, "regrow_ticket"
_CODE = "positions:"


def save(ticket: Ticket, path: Path) -> None:
    """Write `ticket` to `path`, whole or not at all."""
    files.write(path, content_of(ticket))


def content_of(ticket: Ticket) -> bytes:
    """What its file holds."""
    topology = ticket.topology
    tensors = {key: value.detach().cpu().contiguous() for key, value in ticket.state.items()}
    tensors |= {_CODE + name: packing.pack(topology.index(name), topology.numel_of(name)) for name in topology}
    words = {"sites": topology.shapes, "meta": ticket.meta, "tied": ticket.tied}
    metadata = {KEY: str(FORMAT), **{key: json.dumps(value) for key, value in words.items()}}
    metadata["sha256"] = _checksum(tensors, metadata)
    return serialised({name: tensor.clone() for name, tensor in tensors.items()}, metadata)


def load(path: Path) -> Ticket:
    """Read what `save` wrote.

    Raises:
        RegrowError: missing, damaged, no ticket of regrow, or of a newer version.
    """
    metadata, tensors = _read(path)
    if KEY not in metadata:
        _refuse(path, "is no ticket of regrow", "Tickets are written by Ticket.save and by runs that capture them")
    if metadata[KEY] != str(FORMAT):
        found = f"has ticket format {metadata[KEY]!r}, this version of regrow reads {FORMAT}"
        _refuse(path, found, "Install the version of regrow that wrote it")
    stored = metadata.pop("sha256", None)
    if stored != _checksum(tensors, metadata):
        _refuse(path, "does not hold what was written: its checksum differs")
    shapes = {name: tuple(shape) for name, shape in json.loads(metadata["sites"]).items()}
    index = {n: packing.unpack(tensors.pop(_CODE + n), tensors[n].numel(), prod(shape)) for n, shape in shapes.items()}
    return Ticket(tensors, Topology(index, shapes), json.loads(metadata["meta"]), json.loads(metadata["tied"]))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        _refuse(path, "does not exist", "Check the path; a run keeps its tickets in its folder `tickets`")
    except (SafetensorError, OSError, ValueError) as error:
        _refuse(path, f"cannot be read as a ticket ({str(error).strip().splitlines()[0][:160]})")


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    hasher = sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hasher.update(_bytes(tensor))
    return hasher.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _refuse(path: Path, found: str, way_out: str = "") -> NoReturn:
    way_out = way_out or (
        "regrow writes tickets at once, so a kill does not cause this: the disk, a copy or another program did. "
        "Put a good copy back, or capture it again"
    )
    raise RegrowError(f"{path} {found}. {way_out}.")
