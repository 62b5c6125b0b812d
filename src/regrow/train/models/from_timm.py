"""Any model of timm, when timm is installed; imported only when asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import torch
from torch import nn

from regrow.core.errors import RegrowError, nearest

_declared: list[torch.library.Library] = []  # a library lives as long as its declarations must


def timm_model(name: str, shape: tuple[int, ...], classes: int, options: dict[str, Any]) -> nn.Module:
    """timm.create_model(name), for inputs of `shape`.

    Raises:
        RegrowError: timm is not installed, or has no such model or option.
    """
    timm = _import_timm(name)
    if not timm.is_model(name):
        raise RegrowError(f"timm has no model {name!r}{nearest(name, timm.list_models())}")
    try:
        model: nn.Module = timm.create_model(name, num_classes=classes, in_chans=shape[0], **options)
    except TypeError as error:
        raise RegrowError(f"timm:{name} refuses {options}: {error}") from error
    return model


def _import_timm(name: str) -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        raise RegrowError(f"model 'timm:{name}' needs timm: pip install 'regrow[vision]'") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    _declare_torchvision()
    return import_module("timm")


def _declare_torchvision() -> None:
    """A torchvision built for CUDA beside a CPU torch cannot load its operators and fails to import: declare them."""
    for module in [m for m in sys.modules if m.split(".")[0] in ("torchvision", "timm")]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _declared.append(library)
