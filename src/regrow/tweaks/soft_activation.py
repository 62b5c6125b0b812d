"""Ghost soft neurons: ReLU begins soft and hardens."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regrow.core.errors import RegrowError, choose
from regrow.tweaks.base import Context, Fading
from regrow.tweaks.choice import chosen

SOFT: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "elu": F.elu,
}


class Soft(nn.Module, ABC):
    """s(x) = f(beta x) / beta, which tends to max(x, 0) as beta grows; with swish it is x sigmoid(beta x)."""

    kind: str
    beta: float

    def forward(self, x: Tensor) -> Tensor:
        return self.soft(x)

    def soft(self, x: Tensor) -> Tensor:
        """s(x)"""
        return SOFT[self.kind](x * self.beta) / self.beta


class SoftReLU(Soft, nn.ReLU):
    """In place of max(x, 0)."""


class SoftReLU6(Soft, nn.ReLU6):
    """s(x) - s(x - 6), in place of min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.soft(x) - self.soft(x - 6.0)


KINDS: dict[type[nn.Module], type[Soft]] = {nn.ReLU: SoftReLU, nn.ReLU6: SoftReLU6}
FUNCTIONS = (F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)


@dataclass(kw_only=True)
class SoftActivation(Fading):
    """x sigmoid(beta x) in place of ReLU, beta rising until the ReLU is back (Jaiswal et al. 2022, arXiv:2206.12755).

    |x sigmoid(beta x) - max(x, 0)| <= .28 / beta: that is how much the network changes when the ReLU returns; a ReLU6
    is the difference of two. Modules of exactly torch's ReLU and ReLU6 change class and change back; `relu()` called
    as a function cannot be replaced: modules that call one are named in a warning, or in the refusal if all do.

    Args:
        kind: "swish", "mish", "gelu", "softplus" or "elu", each as f(beta x) / beta.
        start, stop: beta > 0 at first and at last; equal for a fixed activation.
        include, exclude: patterns for the names of these modules.
    """

    kind: str = "swish"
    start: float = 1.0
    stop: float = 10.0
    until: float = 0.5
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _soft: list[Soft] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(SOFT, self.kind, "soft activation")
        if min(self.start, self.stop) <= 0.0:
            raise RegrowError(f"{self.name}: start={self.start:g}, stop={self.stop:g}: beta is greater than 0")

    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        found = {name: module for name, module in model.named_modules() if type(module) in KINDS}
        called = [f"{name or 'itself'} ({type(m).__name__})" for name, m in model.named_modules() if _calls(m)]
        where = f", as it is in {', '.join(called[:4])}{', ...' if len(called) > 4 else ''}" if called else ""
        wanted = f"nn.ReLU or nn.ReLU6 modules (a relu called as a function cannot be replaced{where})"
        for module in chosen(self.name, wanted, model, found, self.include, self.exclude).values():
            module.__class__ = KINDS[type(module)]
            assert isinstance(module, Soft)
            module.kind, module.beta = self.kind, self.start
            context.host(module)
            self._soft.append(module)
        if called:
            done = f"{self.name} acts on {len(self._soft)} modules, but not where relu is called as a function"
            warnings.warn(f"{done}{where}: make modules of those", stacklevel=2)
        return {}

    def at(self, progress: float) -> None:
        for module in self._soft:
            module.beta = self.strength(progress)

    def detach(self) -> None:
        for module in self._soft:
            del module.kind, module.beta
            hard: type[nn.Module] = next(hard for hard, soft in KINDS.items() if isinstance(module, soft))
            module.__class__ = hard  # type: ignore[assignment]
        self._soft = []

    def note(self) -> str:
        return f"{len(self._soft)} ReLU modules are soft, beta {self._soft[0].beta:.3g}" if self._soft else ""


def _calls(module: nn.Module) -> bool:
    """Whether its own code, as far as `forward` shows it, calls a relu as a function; or it keeps one to call."""
    if any(value is function for value in vars(module).values() for function in FUNCTIONS):
        return True
    if type(module).__module__.startswith("torch."):  # whose activations are modules, or kept
        return False
    code = getattr(type(module).forward, "__code__", None)
    names = {function.__name__ for function in FUNCTIONS} - {name for name, _ in module.named_children()}
    return code is not None and not names.isdisjoint(code.co_names)
