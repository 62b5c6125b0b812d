"""Linear layers of several members at once, as `torch.func.vmap` over the members meets them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import gcd
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from regrow.core.topology import Topology
from regrow.execution.dense import ONEDNN
from regrow.execution.index import Index
from regrow.execution.ops import sparse_linear


class MembersLinear(nn.Module):
    """y_m = x_m W_m^T + b_m: of every member m in one call under `torch.func.vmap`, of one member outside.

    All are one product with one matrix [M out, M in], block-diagonal, of which only the surviving weights exist; with
    the rows under one another, [M out, in], where the input is the same for all. Activations in lanes (see
    `execution.ops`) lie in memory as members x features x samples, so that nothing is copied between such layers.

    Args:
        topologies: the members', of which `site` is this layer's.
        values: each member's surviving weights, [nnz_m].
        biases: each member's [out], or none.
    """

    member: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(
        self, topologies: Sequence[Topology], site: str, values: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self._positions = [topology.index(site) for topology in topologies]
        self._shape = cast(tuple[int, int], topologies[0].shape(site))
        self._index = cache(self._index_of)
        self.register_buffer("member", torch.arange(len(topologies)))  # functional_call puts one there
        self.register_buffer("values", torch.cat([*values]))
        self.register_buffer("bias", torch.cat([*biases]) if biases else None)

    def forward(self, x: Tensor) -> Tensor:
        if not torch._C._functorch.is_batchedtensor(self.member):
            return self.one(int(self.member), x)
        y: Tensor = _Members.apply(x, self.member, self)  # type: ignore[no-untyped-call]
        return y

    def one(self, m: int, x: Tensor) -> Tensor:
        """x [N.., in] of member m -> [N.., out]."""
        first, out = sum(at.numel() for at in self._positions[:m]), self._shape[0]
        values = self.values[first : first + self._positions[m].numel()]
        bias = None if self.bias is None else self.bias[m * out : (m + 1) * out]
        return sparse_linear(x, values, bias, self._index(m))

    def all(self, x: Tensor, shared: bool) -> Tensor:
        """x [M, N.., in], or [N.., in] that all share -> [M, N.., out]."""
        if not shared:
            x = x.movedim(0, -2).flatten(-2)
        y = sparse_linear(x, self.values, self.bias, self._index("shared" if shared else "apart"))
        return y.view(*y.shape[:-1], len(self._positions), self._shape[0]).movedim(-2, 0)

    def _index_of(self, which: int | str) -> Index:
        """Where the values are: one member's, or all members' for an input that they share or that each has its own."""
        out, width = self._shape
        if isinstance(which, int):
            return Index.of(self._positions[which], self._shape)
        members = len(self._positions)
        step = 0 if which == "shared" else width  # from the columns of one member to those of the next
        total = width + step * (members - 1)
        at = [
            (m * out + at // width) * total + m * step + at % width
            for m, at in enumerate(positions.long() for positions in self._positions)
        ]
        return Index.of(torch.cat(at), (members * out, total))


class _Members(torch.autograd.Function):
    """The call of a MembersLinear as torch sees it: under vmap one for all members."""

    @staticmethod
    def forward(x: Tensor, member: Tensor, layer: MembersLinear) -> Tensor:
        raise NotImplementedError  # outside vmap one member runs, on autograd's ordinary ways

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the products inside have gradients of their own."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, member: Tensor, layer: MembersLinear) -> tuple[Tensor, int]:
        at = in_dims[0]
        return layer.all(x if at is None else x.movedim(at, 0), shared=at is None), 0


class PlainLinear(nn.Linear):
    """nn.Linear, and under vmap over members with weights of their own: one product if they share its input."""

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None or not torch._C._functorch.is_batchedtensor(self.weight):
            return super().forward(x)
        y: Tensor = _Plain.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


class _Plain(torch.autograd.Function):
    """The call of a PlainLinear under vmap."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the products inside have gradients of their own."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        """weight [M, out, in], bias [M, out]."""
        if in_dims[0] is None:
            y = _product(x, weight.flatten(0, 1), bias.flatten())
            return y.view(*y.shape[:-1], *bias.shape).movedim(-2, 0), 0
        x = x.movedim(in_dims[0], 0)
        if x[0].numel() <= _FEW * x.shape[-1] and x.device.type == "cpu":
            return _evenly(x, weight, bias), 0
        return torch.stack([_product(*member) for member in zip(x, weight, bias, strict=True)]), 0


def _evenly(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [M, N.., in] -> [M, N.., out] in blocks of rows of the weights, as many for one thread as for another."""
    (members, out, width), threads = weight.shape, torch.get_num_threads()
    cuts = threads // gcd(members, threads)
    blocks = members * cuts if out % cuts == 0 else members
    rows = x.reshape(members, 1, -1, width).expand(-1, blocks // members, -1, -1).flatten(0, 1)
    y = torch.baddbmm(bias.reshape(blocks, 1, -1), rows, weight.reshape(blocks, -1, width).mT)
    return y.view(members, blocks // members, *y.shape[1:]).transpose(1, 2).reshape(*x.shape[:-1], out)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By oneDNN where it can: for small batches up to twice as fast as what F.linear calls; it has no gradient."""
    if torch.is_grad_enabled() or not (x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu" and ONEDNN):
        return linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


_FEW = 2
"""Samples up to which a product costs what reading its weights does, so that all threads are to read: 93 us for 136
(three members, 1024 x 1024, one sample, two threads)."""
