"""Functions that modules call on images in lanes (`images.py`), where torch would leave the layout: concatenation
(DenseNet, Inception, U-Net), resizing, pooling.

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
from regrow.execution.lane_layers import sideways
from regrow.execution.lane_norms import in_image_lanes
from regrow.execution.stand_in import stand_in

_JOINING = (torch.cat, torch.concat, torch.concatenate)
_BY_PIXELS = (
    functional.interpolate, functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d,
)  # fmt: skip
_NAMES = {"cat", "concat", "concatenate"} | {call.__name__ for call in _BY_PIXELS}

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
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _JOINING and not kwargs.keys() - {"dim"}:
            return _joined(func, *args, **kwargs)
        if func in _BY_PIXELS and args:
            return sideways(lambda x: func(x, *args[1:], **kwargs), args[0])
        return func(*args, **kwargs)


def _joined(join: Callable[..., Tensor], parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """In lanes if any part is; as fast as torch does it in rows."""
    if not any(map(in_image_lanes, parts)) or any(part.dim() != 4 for part in parts):
        return join(parts, dim)
    memory = [images.lanes(part).permute(1, 2, 3, 0) for part in parts]
    return join(memory, (dim - 1) % 4).permute(3, 0, 1, 2)
