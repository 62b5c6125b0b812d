"""Counting: which weight spends how many FLOPs in a forward pass, by torch's own counter."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from regrow.core.errors import RegrowError
from regrow.core.topology import parameter_of


def dense_flops(model: nn.Module, *example: Tensor, sites: Iterable[str] = ()) -> dict[str, int]:
    """FLOPs of one forward pass by weight name, as if nothing were sparse.

    The model is not touched: a copy runs, in eval mode. A weight that forward computes first (weight standardisation)
    is not recognised, so its product is not counted.

    Args:
        model: any module.
        example: its inputs, one sample of any value. The copy runs where they are: on "meta" it costs neither memory
            nor arithmetic.
        sites: names of a topology; a weight whose parts are sites, `NAME[q]`, `NAME[k]`, ..., is counted part by part.

    Raises:
        RegrowError: no product with a weight was seen.
    """
    twin = _copy(model, example[0].device)
    counter = FlopCounterMode(display=False)
    by_weight = _ByWeight(counter, _stretches(twin, sites))
    with torch.no_grad(), _plain_attention(), counter, by_weight:
        twin(*example)
    if not by_weight.flops:
        raise RegrowError(
            f"no FLOPs to count: {type(model).__name__} multiplies no weight of its own with an input of shape "
            f"{tuple(example[0].shape)}; pass a model with Linear or convolution layers and inputs that reach them"
        )
    return dict(by_weight.flops)


class _ByWeight(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Charges what each operation adds to `counter` to the weight it multiplies with.

    A weight is known by its memory, so transposed views, slices and weights used twice are found.

    Args:
        stretches: memory -> (first element, one past the last, name) of each weight, or part of one, in it.
    """

    def __init__(self, counter: FlopCounterMode, stretches: Mapping[int, list[tuple[int, int, str]]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: dict[str, int] = defaultdict(int)
        self._counter, self._stretches = counter, stretches

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self._counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        spent = self._counter.get_total_flops() - before
        if spent:
            self._charge(spent, [a for a in args if isinstance(a, Tensor) and a.dim() > 1])
        return out

    def _charge(self, spent: int, factors: list[Tensor]) -> None:
        """A view of several parts is shared among them, by their shares of it."""
        for factor in factors:
            first, last = factor.storage_offset(), factor.storage_offset() + factor.numel()
            for start, stop, name in self._stretches.get(_memory(factor), ()):
                common = max(0, min(last, stop) - max(first, start))
                self.flops[name] += spent * common // factor.numel()


def _stretches(model: nn.Module, sites: Iterable[str]) -> dict[int, list[tuple[int, int, str]]]:
    parts: dict[str, list[str]] = defaultdict(list)
    for site in sites:
        parts[parameter_of(site)].append(site)
    found: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for name, weight in model.named_parameters():
        names = parts.get(name, [name])
        start, size = int(weight.storage_offset()), weight.numel() // len(names)
        found[_memory(weight)] += [(start + i * size, start + (i + 1) * size, n) for i, n in enumerate(names)]
    return found


def _memory(tensor: Tensor) -> int:
    """Identity of the tensor's storage; its address would be 0 for all on "meta"."""
    return int(tensor.untyped_storage()._cdata)


def _copy(model: nn.Module, device: torch.device) -> nn.Module:
    """A deep copy in eval mode on `device`, without a stop on the model's own."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to(device, copy=True), False) for p in model.parameters()}
    memo |= {id(b): b.detach().to(device, copy=True) for b in model.buffers()}
    return copy.deepcopy(model, memo).eval().to(device)  # sparse layers have become dense ones in the copy


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused inference path, which the counter does not know."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
