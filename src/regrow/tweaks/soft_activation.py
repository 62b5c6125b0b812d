"""Ghost soft neurons: ReLU begins soft and hardens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

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


class SoftReLU(nn.ReLU):
    """f(beta x) / beta, which tends to max(x, 0) as beta grows; with swish it is x sigmoid(beta x)."""

    kind: str
    beta: float

    def forward(self, x: Tensor) -> Tensor:
        return SOFT[self.kind](x * self.beta) / self.beta


@dataclass(kw_only=True)
class SoftActivation(Fading):
    """x sigmoid(beta x) in place of ReLU, beta rising until the ReLU is back (Jaiswal et al. 2022, arXiv:2206.12755).

    |x sigmoid(beta x) - max(x, 0)| <= .28 / beta: that is how much the network changes when the ReLU returns. Modules
    of exactly torch's ReLU change class and change back; `relu()` called as a function cannot be replaced.

    Args:
        kind: "swish", "mish", "gelu", "softplus" or "elu", each as f(beta x) / beta.
        start, stop: beta > 0 at first and at last; equal for a fixed activation.
        include, exclude: patterns for the names of ReLU modules.
    """

    kind: str = "swish"
    start: float = 1.0
    stop: float = 10.0
    until: float = 0.5
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _soft: list[SoftReLU] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(SOFT, self.kind, "soft activation")
        if min(self.start, self.stop) <= 0.0:
            raise RegrowError(f"{self.name}: start={self.start:g}, stop={self.stop:g}: beta is greater than 0")

    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        found = {name: module for name, module in model.named_modules() if type(module) is nn.ReLU}
        wanted = "nn.ReLU modules (a relu called as a function cannot be replaced)"
        for module in chosen(self.name, wanted, model, found, self.include, self.exclude).values():
            module.__class__ = SoftReLU
            soft = cast(SoftReLU, module)
            soft.kind, soft.beta = self.kind, self.start
            self._soft.append(soft)
        return {}

    def at(self, progress: float) -> None:
        for module in self._soft:
            module.beta = self.strength(progress)

    def detach(self) -> None:
        for module in self._soft:
            del module.kind, module.beta
            module.__class__ = nn.ReLU  # type: ignore[assignment]
        self._soft = []

    def note(self) -> str:
        return f"{len(self._soft)} ReLU modules are soft, beta {self._soft[0].beta:.3g}" if self._soft else ""
