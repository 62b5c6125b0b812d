"""nn.MultiheadAttention, and the layers around it, whose projections hold only what survives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, pad, scaled_dot_product_attention

from regrow.core.errors import RegrowError
from regrow.execution.held import AS_HELD
from regrow.execution.rows import rows
from regrow.execution.sparse_linear import SparseLinear
from regrow.execution.stand_in import empty, stand_in


class SparseAttention(nn.MultiheadAttention):
    """Attention as nn.MultiheadAttention has it, over projections that are sparse layers, or dense where they are not.

    Toward everything else it is the nn.MultiheadAttention it stands for: names, hooks, `isinstance`, state_dict; its
    copies and pickles are plain.
    """

    projections: Mapping[str, SparseLinear]
    """Parameter (in_proj_weight; or q_, k_ and v_proj_weight) -> the layer that holds it too, as its weight."""

    @classmethod
    def take_over(cls, attention: nn.MultiheadAttention, projections: Mapping[str, SparseLinear]) -> None:
        attention.__class__ = cls
        attention.projections = projections  # type: ignore[assignment]

    def leave(self) -> None:
        del self.projections
        self.__class__ = nn.MultiheadAttention  # type: ignore[assignment]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if query.is_nested:
            raise RegrowError("sparse attention takes no nested tensors; pass padded ones with key_padding_mask")
        if is_causal and attn_mask is None:
            raise RegrowError("is_causal=True is a hint about attn_mask: pass the mask too, as torch's attention wants")
        batched, causal = query.dim() == 3, is_causal and key_padding_mask is None and not need_weights
        if not batched:
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = map(self._heads, self._extended(*self._projected(*self._batch_first(query, key, value))))
        mask = None if causal else self._mask(q, k.shape[2], attn_mask, key_padding_mask)
        chance = self.dropout if self.training else 0.0
        if need_weights:
            y, weights = _attend(q, k, v, mask, chance)
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y, weights = scaled_dot_product_attention(q, k, v, mask, chance, causal), None
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    def _batch_first(self, *inputs: Tensor) -> Iterator[Tensor]:
        """Each [B, T, width]; what was one tensor stays one."""
        once: dict[int, Tensor] = {}
        for x in inputs:
            if id(x) not in once:
                once[id(x)] = x.unsqueeze(0) if x.dim() == 2 else x if self.batch_first else x.transpose(0, 1)
            yield once[id(x)]

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        inputs = (query, key, value)
        bias = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is None:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            found = (self._product(name, x, None) for name, x in zip(names, inputs, strict=True))
            return tuple(y if b is None else y + b for y, b in zip(found, bias, strict=True))
        if "in_proj_weight" not in self.projections:
            weights = self.in_proj_weight.chunk(3)
            return tuple(linear(x, w, b) for x, w, b in zip(inputs, weights, bias, strict=True))
        if query is key is value:
            return rows(self._product("in_proj_weight", query, None)).chunk(3, -1)
        # One product over all inputs as one batch, of which each third of the rows has its own part: cross-attention
        # multiplies some inputs in vain, and the dense gradient of all that is kept remains one product.
        lengths = [x.shape[1] for x in inputs]
        y = self._product("in_proj_weight", torch.cat(inputs, 1), None)
        return tuple(part.chunk(3, -1)[i] for i, part in enumerate(torch.split(y, lengths, 1)))

    def _product(self, name: str, x: Tensor, bias: Tensor | None) -> Tensor:
        layer = self.projections.get(name)
        y: Tensor = linear(x, getattr(self, name), bias) if layer is None else layer(x)
        return y

    def _extended(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With the keys and values that belong to the layer: learned ones, and a zero."""
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([x, own.to(x).expand(len(x), 1, -1)], 1) for x, own in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = pad(k, (0, 0, 0, 1)), pad(v, (0, 0, 0, 1))
        return q, k, v

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, width] -> [B, heads, T, width / heads]."""
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, q: Tensor, keys: int, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
        """What is added to the scores: broadcasts to [B, heads, T, keys]. Keys of the layer's own are never masked."""
        masks = []
        if attn_mask is not None:
            masks.append(attn_mask if attn_mask.dim() == 2 else attn_mask.view(*q.shape[:2], *attn_mask.shape[1:]))
        if key_padding_mask is not None:
            masks.append(key_padding_mask[:, None, None])
        added = [pad(_added(mask, q.dtype), (0, keys - mask.shape[-1])) for mask in masks]
        return None if not added else added[0] if len(added) == 1 else added[0] + added[1]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not AS_HELD.get():
            for name, layer in self.projections.items():
                destination[prefix + name] = layer.dense(layer.weight.detach())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        found: Mapping[str, Any] | None = state_dict
        for name, layer in self.projections.items():
            found = None if found is None else layer.take_in(found, prefix + name, rest[-1])
        if found is not None:
            super()._load_from_state_dict(found, prefix, *rest)

    def __reduce_ex__(self, protocol: Any) -> Any:
        whole = {
            name: nn.Parameter(layer.dense(layer.weight.detach()), layer.weight.requires_grad)
            for name, layer in self.projections.items()
        }
        state = {key: value for key, value in self.__dict__.items() if key != "projections"}
        return empty, (nn.MultiheadAttention,), state | {"_parameters": self._parameters | whole}


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, chance: float) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(d) + mask) v, and the softmax after dropout [B, heads, T, keys]."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = (scores if mask is None else scores + mask).softmax(-1)
    weights = dropout(weights, chance) if chance else weights
    return weights @ v, weights


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """-inf where a bool mask is True; a float mask as it is."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)
    return mask.to(dtype)


@stand_in
class SparseEncoderLayer(nn.TransformerEncoderLayer):
    """nn.TransformerEncoderLayer without its fused inference, which reads weights as matrices."""

    @property
    def activation_relu_or_gelu(self) -> int:  # type: ignore[override]
        """Neither, as far as torch asks for its fused inference; the instance keeps its own for when it leaves."""
        return 0


@stand_in
class SparseEncoder(nn.TransformerEncoder):
    """nn.TransformerEncoder that makes no nested tensors, which only fused inference takes."""

    @property
    def use_nested_tensor(self) -> bool:  # type: ignore[override]
        return False
