"""SparseLinear: a linear layer whose parameter is the vector of its surviving weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from regrow.core import positions
from regrow.core.errors import RegrowError
from regrow.execution.held import AS_HELD
from regrow.execution.index import Index
from regrow.execution.ops import is_lanes, sparse_linear

Kind = TypeVar("Kind", bound=nn.Module)

_MOST_DENSE = 2**31 - 1
"""Weights a layer may have to be written out dense."""


class SparseLinear(nn.Linear):
    """y = x W^T + b of which only the surviving weights exist: `weight` is their vector, [nnz], rows ascending.

    Toward everything else it is the nn.Linear it stands for: names, hooks, `isinstance`; its state_dict holds the dense
    matrix; its copies and pickles are plain nn.Linear layers.

    Args:
        in_features, out_features: shape of the matrix, which is never allocated.
        nnz: surviving weights, drawn uniformly; their values too, in +-1/sqrt(nnz / out_features).
        generator: of both; torch's own by default.

    Raises:
        RegrowError: nnz is not in 0..in_features * out_features.
    """

    weight: nn.Parameter
    index: Index
    loaded: Tensor | None
    """The dense matrix last loaded, until the topology that belongs to it is known too, or the next step."""
    held: bool
    """Is it under a sparsifier?"""
    plain: type[nn.Linear]
    """What it was, and is again when it leaves."""

    def __init__(
        self, in_features: int, out_features: int, nnz: int, bias: bool = True, generator: Generator | None = None
    ) -> None:
        nn.Module.__init__(self)
        if not 0 <= nnz <= in_features * out_features:
            raise RegrowError(
                f"nnz={nnz}: a {out_features} x {in_features} layer has 0 to {in_features * out_features}"
            )
        generator = generator or torch.default_generator
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / math.sqrt(max(nnz / out_features, 1.0))
        self.weight = nn.Parameter(torch.empty(nnz).uniform_(-bound, bound, generator=generator))
        vector = torch.empty(out_features).uniform_(-bound, bound, generator=generator) if bias else None
        self.register_parameter("bias", None if vector is None else nn.Parameter(vector))
        self._begin(positions.sample(in_features * out_features, nnz, generator))

    @classmethod
    def take_over(cls, layer: nn.Linear, at: Tensor) -> SparseLinear:
        """Make a plain layer sparse, in place: the same module and Parameter, of which the weights `at` remain."""
        survivors, was = layer.weight.detach().reshape(-1)[at], type(layer)
        layer.__class__ = cls
        sparse = cast(SparseLinear, layer)
        refit(sparse.weight, survivors)
        sparse._begin(at, was)
        return sparse

    def _begin(self, at: Tensor, plain: type[nn.Linear] = nn.Linear) -> None:
        self.plain = plain
        self.index = Index.of(at, (self.out_features, self.in_features))
        self.loaded, self.held = None, False

    def leave(self) -> nn.Linear:
        """The plain layer again, with exact zeros."""
        refit(self.weight, self.dense(self.weight.detach()))
        plain = self.plain
        for own in _OWN:
            delattr(self, own)
        self.__class__ = plain  # type: ignore[assignment]
        return self

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.numel() == self.in_features * self.out_features:  # nothing is missing: the vector is the matrix
            return dense_linear(input, self.weight.view(self.out_features, self.in_features), self.bias)
        return sparse_linear(input, self.weight, self.bias, self.index)

    @torch.no_grad()
    def move(self, at: Tensor, values: Tensor) -> None:
        """To other positions and values; in place while there are as many, so that nothing is compiled anew."""
        if at.numel() == self.index.nnz:
            self.index.refill(at)
            self.weight.copy_(values)
        else:
            self.index = Index.of(at, (self.out_features, self.in_features))
            refit(self.weight, values)

    def dense(self, values: Tensor, elsewhere: float = 0.0) -> Tensor:
        """[out, in]: these values [nnz] where weights survive, another elsewhere.

        Raises:
            RegrowError: the layer is too large for that.
        """
        numel = self.in_features * self.out_features
        if numel > _MOST_DENSE:
            raise RegrowError(
                f"a {self.out_features} x {self.in_features} layer cannot be written out dense; keep its `weight` and "
                "`index.positions()`"
            )
        flat = values.new_full((numel,), elsewhere)
        return flat.index_copy_(0, self.index.positions(), values).view(self.out_features, self.in_features)

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
        """The state with the vector of this layer's weights in place of the dense matrix at `key`; None: misfit."""
        dense = state_dict.get(key)
        if not isinstance(dense, Tensor) or AS_HELD.get():
            return state_dict
        if dense.shape != self.index.shape:
            errors.append(f"size mismatch for {key}: {tuple(dense.shape)} given, {self.index.shape} expected")
            return None
        self.loaded = dense.detach()
        return {**state_dict, key: self.loaded.reshape(-1)[self.index.positions()]}

    def __reduce_ex__(self, protocol: Any) -> Any:
        whole = nn.Parameter(self.dense(self.weight.detach()), self.weight.requires_grad)
        state = {key: value for key, value in self.__dict__.items() if key not in _OWN}
        return empty, (self.plain,), state | {"_parameters": self._parameters | {"weight": whole}}


_OWN = ("index", "loaded", "held", "plain")


def empty(kind: type[Kind]) -> Kind:
    """An empty module of torch's own class, to be filled by what a copy or a pickle holds."""
    return kind.__new__(kind)


def dense_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y = x W^T + b, in lanes if x [..., in] is: torch's own takes up to seven times as long over lanes of float32."""
    flat = x.reshape(-1, x.shape[-1])
    if not is_lanes(flat) or x.dtype == torch.bfloat16:
        return linear(x, weight, bias)
    y = weight @ flat.t() if bias is None else torch.addmm(bias[:, None], weight, flat.t())
    return y.t().view(*x.shape[:-1], weight.shape[0])


def refit(parameter: nn.Parameter, data: Tensor) -> None:
    """Give the same Parameter data of another shape. Its gradient goes.

    By way of another type: only then does torch forget the node that accumulates its gradients, which remembers the
    shape and lives as long as the last loss.
    """
    parameter.grad = None
    parameter.data = data.new_empty(0, dtype=torch.float32 if data.dtype == torch.float64 else torch.float64)
    parameter.data = data
