"""SparseLayer: what layers share whose parameter is the vector of their surviving weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from regrow.core.errors import RegrowError
from regrow.core.topology import Shape
from regrow.execution.held import AS_HELD
from regrow.execution.index import Index
from regrow.execution.scratch import lasting, release
from regrow.execution.stand_in import empty

Layer = TypeVar("Layer", bound="SparseLayer")

_MOST_DENSE = 2**31 - 1
"""Weights a layer may have to be written out dense."""


class SparseLayer(nn.Module):
    """A layer of which only the surviving weights exist: `weight` is their vector, [nnz], in the dense weight's order.

    Toward everything else it is the layer of torch's that it stands for: names, hooks, `isinstance`; its state_dict
    holds the dense weight; its copies and pickles are plain layers.
    """

    weight: nn.Parameter
    index: Index
    """Of the matrix that has a row for each output, and a column for all else."""
    loaded: Tensor | None
    """The dense weight last loaded, until the topology that belongs to it is known too, or the next step."""
    held: bool
    """Is it under a sparsifier?"""
    plain: type[nn.Module]
    """What it was, and is again when it leaves."""
    narrow: ClassVar[bool] = False
    """Do its kernels take a narrow index?"""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Of the dense weight."""

    @abstractmethod
    def gradient(self, grad: Tensor, x: Tensor, rows: slice) -> Tensor:
        """These rows of the dense gradient, as the index counts them, from what a backward pass was given."""

    def rivals(self, grad: Tensor, x: Tensor, active: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
        """The k largest entries of that which are not active, and perhaps more, if the layer has a way of its own."""
        return None

    @classmethod
    def take_over(cls: type[Layer], layer: nn.Module, at: Tensor) -> Layer:
        """Make a plain layer sparse, in place: the same module and Parameter, of which the weights `at` remain."""
        was = type(layer)
        layer.__class__ = cls
        assert isinstance(layer, cls)
        weight = layer.weight.detach()
        refit(layer.weight, lasting(at.numel(), weight.dtype).copy_(weight.reshape(-1)[at]))
        layer._begin(at, was)
        return layer

    @property
    def matrix(self) -> tuple[int, int]:
        """The shape of what the index describes."""
        out, *rest = self.shape
        return out, prod(rest)

    def placed(self, at: Tensor) -> Tensor:
        """Flat positions in the dense weight, as the index has them."""
        return at

    def positions(self) -> Tensor:
        """Where the weights are in the dense one: ascending flat positions [nnz], int64."""
        return self.index.positions()

    def _begin(self, at: Tensor, plain: type[nn.Module]) -> None:
        self.plain = plain
        self.index = Index.of(self.placed(at), self.matrix, self.narrow)
        self.loaded, self.held = None, False

    def leave(self) -> nn.Module:
        """The plain layer again, with exact zeros."""
        refit(self.weight, self.dense(self.weight.detach()))
        release()
        plain = self.plain
        for own in _OWN:
            delattr(self, own)
        self.__class__ = plain  # type: ignore[assignment]
        return self

    @property
    def whole(self) -> bool:
        """Is nothing missing? Then the vector is the dense weight."""
        return self.weight.numel() == prod(self.shape)

    @torch.no_grad()
    def move(self, at: Tensor, values: Tensor) -> None:
        """To other positions and values, which may be those of the weight itself, changed behind torch's back; in place
        while there are as many, so that nothing is compiled anew."""
        if at.numel() == self.index.nnz:
            self.index.refill(self.placed(at))
            if values.is_set_to(self.weight):
                increment_version(self.weight)
            else:
                self.weight.copy_(values)
        else:
            self.index = Index.of(self.placed(at), self.matrix, self.narrow)
            refit(self.weight, values)
            release()

    def dense(self, values: Tensor, elsewhere: float = 0.0) -> Tensor:
        """Of the shape of the dense weight: these values [nnz] where weights survive, another elsewhere.

        Raises:
            RegrowError: the layer is too large for that.
        """
        if prod(self.shape) > _MOST_DENSE:
            raise RegrowError(
                f"a {' x '.join(map(str, self.shape))} layer cannot be written out dense; keep its `weight` and "
                "`positions()`"
            )
        flat = values.new_full((prod(self.shape),), elsewhere)
        return flat.index_copy_(0, self.positions(), values).view(self.shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nnz={self.weight.numel()}"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if AS_HELD.get():
            return
        try:
            destination[prefix + "weight"] = self.dense(self.weight.detach())
        except RegrowError as error:
            raise RegrowError(f"{prefix}weight: {error}") from None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        found = self.take_in(state_dict, prefix + "weight", rest[-1])
        if found is not None:
            super()._load_from_state_dict(found, prefix, *rest)

    def take_in(self, state_dict: Mapping[str, Any], key: str, errors: list[str]) -> Mapping[str, Any] | None:
        """The state with the vector of this layer's weights in place of the dense weight at `key`; None: misfit."""
        dense = state_dict.get(key)
        if not isinstance(dense, Tensor) or AS_HELD.get():
            return state_dict
        if dense.shape != self.shape:
            errors.append(f"size mismatch for {key}: {tuple(dense.shape)} given, {self.shape} expected")
            return None
        self.loaded = dense.detach()
        return {**state_dict, key: self.loaded.reshape(-1)[self.positions()]}

    def __reduce_ex__(self, protocol: Any) -> Any:
        dense = nn.Parameter(self.dense(self.weight.detach()), self.weight.requires_grad)
        state = {key: value for key, value in self.__dict__.items() if key not in _OWN}
        return empty, (self.plain,), state | {"_parameters": self._parameters | {"weight": dense}}


_OWN = ("index", "loaded", "held", "plain")


def refit(parameter: nn.Parameter, data: Tensor) -> None:
    """Give the same Parameter data of another shape. Its gradient goes.

    By way of another type: only then does torch forget the node that accumulates its gradients, which remembers the
    shape and lives as long as the last loss.
    """
    parameter.grad = None
    parameter.data = data.new_empty(0, dtype=torch.float32 if data.dtype == torch.float64 else torch.float64)
    parameter.data = data
