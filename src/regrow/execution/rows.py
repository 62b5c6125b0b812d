"""Out of lanes, for what torch computes much faster in rows: attention."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.execution import native
from regrow.execution.norm_ops import in_lanes

torch.library.define("regrow::rows", "(Tensor x) -> Tensor")


def rows(x: Tensor) -> Tensor:
    """x [..., features], contiguous: itself if it is, else one copy."""
    if not in_lanes(x):
        return x.contiguous()
    copy: Tensor = torch.ops.regrow.rows(x.flatten(0, -2))
    return copy.view(x.shape)


def _rows(x: Tensor) -> Tensor:
    if not native.serves(x):
        return x.clone(memory_format=torch.contiguous_format)
    y = _empty(x)
    native.transpose(x.t(), y)
    return y


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


torch.library.impl("regrow::rows", "CPU", _rows)
torch.library.register_fake("regrow::rows", _empty)
torch.library.register_autograd("regrow::rows", lambda ctx, grad: grad)
