"""Blocks in which batch normalisation, the sum with the shortcut and ReLU are one pass over memory, not three; and for
inference none, as the convolution before them does it all. So too the tweaks' modules: branches and soft activations.

Only where the module says for certain what follows what: in nn.Sequential, and in blocks whose forward is known line
by line. All others compute the same layer by layer; so do these where a layer has hooks, or is not of torch's class.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from regrow.execution.folded import normed
from regrow.execution.lane_norms import LaneBatchNorm1d, LaneBatchNorm2d
from regrow.execution.soft_ops import swish
from regrow.execution.sparse_conv import SparseConv2d
from regrow.execution.stand_in import plain, stand_in

_BRANCH = "regrow.tweaks.branch.Branch"
_MADE: dict[type[nn.Module], type[nn.Module]] = {}


def fused(module: nn.Module) -> type[nn.Module] | None:
    """The class of a module like this one with fewer passes, if there is one."""
    kind: type[nn.Module] = type(module)
    if isinstance(module, nn.Sequential) and kind is nn.Sequential:
        return _of(kind) if any(map(_joined, pairwise(module))) else None
    return _of(kind) if _named(kind) in _OWN else None


def is_branch(module: nn.Module) -> bool:
    """Does it run beside a layer and add to what that gives?"""
    return _named(type(module)) == _BRANCH


def _of(kind: type[nn.Module]) -> type[nn.Module]:
    if kind not in _MADE:
        _MADE[kind] = stand_in(type(kind.__name__, (kind,), _OWN[_named(kind)]))
    return _MADE[kind]


def _named(kind: type[nn.Module]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _joined(pair: tuple[nn.Module, nn.Module]) -> bool:
    first, second = pair
    if isinstance(first, nn.BatchNorm2d):
        return type(second) is nn.ReLU
    return isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)


def _convolved(
    conv: nn.Module, norm: nn.Module, activation: nn.Module | None, x: Tensor, add: Tensor | None = None
) -> Tensor:
    """activation(norm(conv(x)) + add)"""
    known = type(conv) is SparseConv2d and type(norm) is LaneBatchNorm2d
    known = known and (activation is None or (type(activation) is nn.ReLU and not _hooked(activation)))
    if known and not (_hooked(conv) or _hooked(norm)):
        return normed(conv, norm, x, add, relu=activation is not None)  # type: ignore[arg-type]
    y: Tensor = conv(x)
    out: Tensor = norm(y) if activation is None else _then(norm, activation, y, add)
    return out


def _then(norm: nn.Module, activation: nn.Module, x: Tensor, add: Tensor | None = None) -> Tensor:
    """activation(norm(x) + add)"""
    known = type(norm) is LaneBatchNorm2d and type(activation) is nn.ReLU
    if known and not (_hooked(norm) or _hooked(activation)):
        return norm.then(x, add, relu=True)  # type: ignore[operator, no-any-return]
    y = norm(x)
    out: Tensor = activation(y if add is None else y + add)
    return out


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    ) or bool(_has_any_global_hook())  # type: ignore[no-untyped-call]


def _sequential(self: Any, input: Tensor) -> Tensor:
    modules = [*self]
    while modules:
        first = modules.pop(0)
        if modules and type(first) is SparseConv2d and type(modules[0]) is LaneBatchNorm2d:
            norm = modules.pop(0)
            cut = bool(modules) and isinstance(modules[0], nn.ReLU)
            input = _convolved(first, norm, modules.pop(0) if cut else None, input)
        elif modules and type(first) is LaneBatchNorm2d and type(modules[0]) is nn.ReLU:
            input = _then(first, modules.pop(0), input)
        else:
            input = first(input)
    return input


def _basic_block(self: Any, x: Tensor) -> Tensor:
    identity = x if self.downsample is None else self.downsample(x)
    x = _convolved(self.conv1, self.bn1, self.relu, x)
    return _convolved(self.conv2, self.bn2, self.relu, x, identity)


def _bottleneck(self: Any, x: Tensor) -> Tensor:
    identity = x if self.downsample is None else self.downsample(x)
    x = _convolved(self.conv1, self.bn1, self.relu, x)
    x = _convolved(self.conv2, self.bn2, self.relu, x)
    return _convolved(self.conv3, self.bn3, self.relu, x, identity)


def _resnet(self: Any, x: Tensor) -> Tensor:
    x = self.maxpool(_convolved(self.conv1, self.bn1, self.relu, x))
    x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
    out: Tensor = self.fc(self.avgpool(x).flatten(1))
    return out


def _wide_block(self: Any, x: Tensor) -> Tensor:
    active = _then(self.bn1, self.relu, x)
    identity = x if self.shortcut is None else self.shortcut(active)
    out = self.dropout(_convolved(self.conv1, self.bn2, self.relu, active))
    total: Tensor = self.conv2(out) + identity
    return total


def _join(self: Any, y: Tensor, out: Tensor) -> Tensor:
    """out + alpha norm(y)"""
    known = type(self.norm) in (LaneBatchNorm1d, LaneBatchNorm2d) and not _hooked(self.norm)
    branch: Any = plain(type(self))
    joined: Tensor = self.norm.then(y, out, scale=self.alpha) if known else branch.join(self, y, out)
    return joined


def _soft(self: Any, x: Tensor) -> Tensor:
    """x sigmoid(beta x), or as the module has it."""
    neuron: Any = plain(type(self))
    y: Tensor = swish(x, self.beta) if self.kind == "swish" else neuron.soft(self, x)
    return y


_OWN: dict[str, dict[str, Callable[..., Tensor]]] = {
    "torch.nn.modules.container.Sequential": {"forward": _sequential},
    "regrow.train.models.wrn.WideBlock": {"forward": _wide_block},
    **{
        f"{models}.resnet.{name}": {"forward": forward}
        for models in ("regrow.train.models", "torchvision.models")
        for name, forward in (("BasicBlock", _basic_block), ("Bottleneck", _bottleneck), ("ResNet", _resnet))
    },
    _BRANCH: {"join": _join},
    **{f"regrow.tweaks.soft_activation.{name}": {"soft": _soft} for name in ("SoftReLU", "SoftReLU6")},
}
"""By the class's full name, the methods that are ours: none of these libraries and rooms is imported here."""
