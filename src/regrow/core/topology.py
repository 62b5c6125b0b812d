"""Topology: which weights exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from math import prod
from typing import Any

import torch
from torch import Tensor

from regrow.core import packing, positions
from regrow.core.errors import RegrowError, choose

Shape = tuple[int, ...]


def parameter_of(site: str) -> str:
    """The parameter that a site is, or is a part of: `NAME` of `NAME[q]`."""
    return site.partition("[")[0]


class Topology(Mapping[str, Tensor]):
    """Site name -> which of its weights exist. A value: an update makes a new one.

    Kept as ascending flat positions; `topology[name]` (and `items()`) derives the bool mask, shaped like the weight.

    Args:
        index: name -> ascending, distinct flat positions, [nnz].
        shapes: name -> the weight's shape.

    Raises:
        RegrowError: names differ, or positions are unsorted, repeated or outside the shape.

    >>> one = Topology.from_masks({"fc.weight": torch.tensor([[1, 0, 0], [0, 1, 1]])})
    >>> other = Topology({"fc.weight": torch.tensor([0, 1, 5])}, {"fc.weight": (2, 3)})
    >>> (one - other).index("fc.weight").tolist()
    [4]
    >>> one.density, one.overlap(other)
    (0.5, 0.5)
    """

    def __init__(self, index: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> None:
        if index.keys() != shapes.keys():
            raise RegrowError(
                f"a topology needs a shape for every site; these differ: {sorted(index.keys() ^ shapes.keys())}"
            )
        self._shapes = {name: tuple(shapes[name]) for name in index}
        self._index = {name: _checked(name, at, prod(self._shapes[name])) for name, at in index.items()}

    @classmethod
    def from_masks(cls, masks: Mapping[str, Tensor]) -> Topology:
        """From masks shaped like the weights; what is not zero exists."""
        return cls(
            {name: positions.where(mask.reshape(-1) != 0) for name, mask in masks.items()},
            {name: tuple(mask.shape) for name, mask in masks.items()},
        )

    @classmethod
    def of(cls, state: Mapping[str, Tensor], names: Iterable[str] | None = None) -> Topology:
        """From the zeros of a state_dict: a given network's mask, wherever it came from.

        Args:
            state: weights by name.
            names: which of them; by default every weight of two or more dimensions that has a zero.

        Raises:
            RegrowError: there is no weight of such a name.
        """
        if names is None:
            names = [name for name, weight in state.items() if weight.dim() > 1 and bool((weight == 0).any())]
        return cls.from_masks({name: choose(state, name, "weight") for name in names})

    @classmethod
    def full(cls, shapes: Mapping[str, Shape]) -> Topology:
        """Every weight exists."""
        return cls({name: torch.arange(prod(shape)) for name, shape in shapes.items()}, shapes)

    def __getitem__(self, name: str) -> Tensor:
        return self.mask(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._shapes == other._shapes and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"Topology({len(self)} sites, {self.nnz} of {self.numel} weights, density {self.density:.4g})"

    def mask(self, name: str) -> Tensor:
        """Bool, shaped like the weight, made on demand."""
        at = self._index[name]
        flat = torch.zeros(self.numel_of(name), dtype=torch.bool, device=at.device)
        return flat.index_fill_(0, at.long(), True).view(self._shapes[name])

    def index(self, name: str) -> Tensor:
        """Ascending flat positions, [nnz]; int32, or int64 past 2^31."""
        return self._index[name]

    def shape(self, name: str) -> Shape:
        return self._shapes[name]

    @property
    def shapes(self) -> dict[str, Shape]:
        return dict(self._shapes)

    def nnz_of(self, name: str) -> int:
        return self._index[name].numel()

    def numel_of(self, name: str) -> int:
        return prod(self._shapes[name])

    @property
    def nnz(self) -> int:
        return sum(map(self.nnz_of, self))

    @property
    def numel(self) -> int:
        return sum(map(self.numel_of, self))

    @property
    def density(self) -> float:
        return self.nnz / max(self.numel, 1)

    def densities(self) -> dict[str, float]:
        return {name: self.nnz_of(name) / self.numel_of(name) for name in self}

    def __or__(self, other: Topology) -> Topology:
        return self._combine(other, positions.union)

    def __and__(self, other: Topology) -> Topology:
        return self._combine(other, positions.intersection)

    def __sub__(self, other: Topology) -> Topology:
        return self._combine(other, positions.difference)

    def since(self, old: Topology) -> dict[str, Tensor]:
        """Positions that exist here and not in `old`, by site."""
        self._check_sites(old)
        return {name: positions.difference(at, old._index[name].to(at.device)) for name, at in self._index.items()}

    def replaced(self, other: Topology) -> Topology:
        """With the sites of `other`, which are some of its own, in their place."""
        if len(other) == len(self):
            return other
        return Topology({**self._index, **other._index}, {**self._shapes, **other._shapes})

    def common(self, other: Topology) -> int:
        """How many weights exist in both."""
        self._check_sites(other)
        return sum(positions.common(at, other._index[name].to(at.device)) for name, at in self._index.items())

    def overlap(self, other: Topology) -> float:
        """Intersection over union of the two sets of weights, in [0, 1]."""
        both = self.common(other)
        union = self.nnz + other.nnz - both
        return both / union if union else 1.0

    def to(self, device: torch.device | str) -> Topology:
        return Topology({name: at.to(device) for name, at in self._index.items()}, self._shapes)

    def digest(self) -> str:
        """Content hash: equal on every rank, or something is wrong."""
        h = sha256()
        for name in sorted(self):
            h.update(f"{name}{self._shapes[name]}".encode())
            h.update(self._index[name].cpu().numpy().tobytes())
        return h.hexdigest()[:16]

    def pack(self) -> dict[str, Any]:
        """At most one bit a weight, as plain tensors and numbers, for `torch.save`. `unpack` gives it back."""
        return {
            "code": {name: packing.pack(self._index[name], self.numel_of(name)) for name in self},
            "nnz": {name: self.nnz_of(name) for name in self},
            "shapes": {name: list(shape) for name, shape in self._shapes.items()},
            "digest": self.digest(),
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> Topology:
        """Raises:
        RegrowError: the content does not match its digest.
        """
        shapes = {name: tuple(shape) for name, shape in packed["shapes"].items()}
        nnz = packed["nnz"]
        try:
            index = {name: packing.unpack(code, nnz[name], prod(shapes[name])) for name, code in packed["code"].items()}
            topology = cls(index, shapes)
            damage = "its content does not match its digest" if topology.digest() != packed["digest"] else ""
        except ValueError as error:
            damage = str(error)
        if damage:
            raise RegrowError(f"a packed topology is damaged: {damage}; take an earlier copy")
        return topology

    def _combine(self, other: Topology, operation: Callable[[Tensor, Tensor], Tensor]) -> Topology:
        self._check_sites(other)
        index = {name: operation(at, other._index[name].to(at.device)) for name, at in self._index.items()}
        return Topology(index, self._shapes)

    def _check_sites(self, other: Topology) -> None:
        if self._shapes != other._shapes:
            raise RegrowError(f"two topologies of different sites cannot be combined: {self!r} and {other!r}")


def _checked(name: str, at: Tensor, numel: int) -> Tensor:
    at = at.detach()
    if not positions.ascend(at, numel):
        raise RegrowError(f"site {name!r}: positions must be ascending, distinct and in 0..{numel - 1}")
    kind = positions.dtype_for(numel)
    return at if at.dtype is kind else positions.settled(at, kind)
