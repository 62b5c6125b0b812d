"""The `tweaks` of a recipe: made, given data to look at, and paid for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from regrow.recipe.schema import Recipe
from regrow.train.data import Data
from regrow.tweaks import Tweak, build, is_ghost


def tweaks_of(recipe: Recipe) -> list[Tweak]:
    """Raises:
    RegrowError: an unknown tweak or hyper-parameter, or a value of another kind than its own.
    """
    return [build(spec.name, **spec.options) for spec in recipe.tweaks]


@dataclass(frozen=True)
class FirstEpoch:
    """The training batches of the first epoch, as often as they are asked for."""

    data: Data
    batch_size: int
    seed: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.data.train(self.batch_size, self.seed, epoch=0)


def with_ghosts(counted: dict[str, float], forward: Mapping[str, int], samples: int) -> dict[str, float]:
    """The FLOPs of a run with those of its ghosts, which are dense in forward and backward and gone at inference.

    Args:
        counted: without them.
        forward: parameter -> FLOPs of one sample's forward pass, ghosts among them.
        samples: seen while they lived.
    """
    spent = 3.0 * samples * sum(flops for name, flops in forward.items() if is_ghost(name))
    if not spent:
        return counted
    training = {key: counted[key] + spent for key in ("training", "training_executed")}
    ratio = training["training"] / counted["training_dense"]
    return counted | training | {"training_ratio": ratio, "training_ghosts": spent}
