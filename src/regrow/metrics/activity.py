"""What units do: how often they answer, and which never do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish)


@dataclass(frozen=True)
class Activity:
    """One layer's outputs after its activation, over all samples and places.

    Args:
        name: of the activation module; `#2` for its second use in a forward pass, and so on.
        units: channels of images, else features.
        dead: share of units that are never above 0.
        active: share of outputs above 0.
        mean, std: of the outputs.
    """

    name: str
    units: int
    dead: float
    active: float
    mean: float
    std: float


@torch.no_grad()
def activities(model: nn.Module, inputs: Iterable[Tensor]) -> list[Activity]:
    """Of every activation module, in the order of the forward pass, in eval mode.

    Raises:
        RegrowError: the model has no activation modules (functional ones are not seen), or no inputs were given.
    """
    places: dict[nn.Module, str] = {
        module: name for name, module in model.named_modules() if isinstance(module, ACTIVATIONS)
    }
    tallies: dict[str, _Tally] = {}
    uses: Counter[str] = Counter()

    def see(module: nn.Module, args: object, out: Tensor) -> None:
        uses[name := places[module]] += 1
        key = name if uses[name] == 1 else f"{name}#{uses[name]}"
        tallies.setdefault(key, _Tally()).add(out)

    hooks = [module.register_forward_hook(see) for module in places]
    training = model.training
    try:
        for x in inputs:
            uses.clear()
            model.eval()(x)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not tallies:
        kinds = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise RegrowError(f"{type(model).__name__} has no activation modules to watch, or got no inputs: {kinds}")
    return [tally.result(name) for name, tally in tallies.items()]


class _Tally:
    """Sums over batches, per unit."""

    def __init__(self) -> None:
        self.count, self.sums, self.squares, self.above = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())

    def add(self, out: Tensor) -> None:
        rows = (out.movedim(1, -1) if out.dim() == 4 else out).flatten(0, -2).double()
        self.count += len(rows)
        self.sums = self.sums + rows.sum(0)
        self.squares = self.squares + rows.square().sum(0)
        self.above = self.above + (rows > 0).sum(0)

    def result(self, name: str) -> Activity:
        total = self.count * len(self.sums)
        mean = float(self.sums.sum()) / total
        variance = max(0.0, float(self.squares.sum()) / total - mean**2)
        dead, active = float((self.above == 0).double().mean()), float(self.above.sum()) / total
        return Activity(name, len(self.sums), dead, active, mean, variance**0.5)
