"""Functions that modules call on images in lanes (`images.py`), where torch would leave the layout or be slow in it:
concatenation (DenseNet, Inception, U-Net), normalisation (timm's), pooling, resizing.

Only modules whose code names one of them listen, for as long as their forward lasts: nothing else pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from regrow.execution import images
from regrow.execution.lane_layers import group_norm, max_pool, sideways
from regrow.execution.lane_norms import in_image_lanes, serves
from regrow.execution.stand_in import stand_in

Call = Callable[..., Any]
_MADE: dict[type[nn.Module], type[nn.Module] | None] = {}


def listening(module: nn.Module) -> type[nn.Module] | None:
    """The class of a module like this one that keeps images in lanes in such calls, if it makes any."""
    kind = type(module)
    if kind not in _MADE:
        _MADE[kind] = _listening(kind) if _calls(kind) else None
    return _MADE[kind]


def _calls(kind: type[nn.Module]) -> bool:
    """Does a method of it that is none of torch's own name such a function?"""
    own = [each for each in kind.__mro__ if not each.__module__.startswith("torch.")]
    methods = [method for each in own for method in vars(each).values() if isinstance(method, FunctionType)]
    return any(_NAMES & {*method.__code__.co_names} for method in methods)


def _listening(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return kind.forward(self, *args, **kwargs)
        with _Lanes():
            return kind.forward(self, *args, **kwargs)

    return stand_in(type(kind.__name__, (kind,), {"forward": forward}))


class _Lanes(TorchFunctionMode):
    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        how = _HOW.get(func)
        return func(*args, **(kwargs or {})) if how is None else how(func, *args, **(kwargs or {}))


def _joined(call: Call, tensors: Sequence[Tensor], dim: int = 0, **rest: Any) -> Any:
    """In lanes if any is; as fast as torch does it in rows."""
    if rest or not any(map(in_image_lanes, tensors)) or any(x.dim() != 4 for x in tensors):
        return call(tensors, dim, **rest)
    memory = [images.lanes(x).permute(1, 2, 3, 0) for x in tensors]
    return call(memory, (dim - 1) % 4).permute(3, 0, 1, 2)


def _by_image(call: Call, input: Tensor, *rest: Any, **named: Any) -> Any:
    return sideways(lambda x: call(x, *rest, **named), input)


def _batch_norm(call: Call, input: Tensor, *rest: Any, **named: Any) -> Any:
    """Of one sample, as wide as all images together."""
    if not in_image_lanes(input):
        return call(input, *rest, **named)
    memory = input.permute(1, 2, 3, 0)
    y = call(memory.reshape(1, memory.shape[0], -1), *rest, **named)
    return y.view(memory.shape).permute(3, 0, 1, 2)


def _group_norm(
    call: Call, input: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Any:
    fits = in_image_lanes(input) and input.shape[1] % groups == 0 and serves(input, weight)
    return (group_norm if fits else call)(input, groups, weight, bias, eps)


def _mean(call: Call, input: Tensor, dim: Any = None, keepdim: bool = False, **rest: Any) -> Any:
    """Over whole images, by pooling: torch's own takes ten times as long."""
    images_whole = not isinstance(dim, int) and dim is not None and sorted(each % 4 for each in dim) == [2, 3]
    if rest or not images_whole or not in_image_lanes(input):
        return call(input, **rest) if dim is None else call(input, dim, keepdim, **rest)
    y = sideways(lambda x: functional.adaptive_avg_pool2d(x, 1), input)
    return y if keepdim else y.flatten(1)


_HOW: dict[Call, Call] = {
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _joined),
    **dict.fromkeys((functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.interpolate), _by_image),
    functional.max_pool2d: max_pool,
    functional.batch_norm: _batch_norm,
    functional.group_norm: _group_norm,
    **dict.fromkeys((torch.mean, Tensor.mean), _mean),
}
_NAMES = {call.__name__ for call in _HOW}
