"""A start by saliency: the weights of the plain model are scored, and the best of them exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from regrow.core.distributions import DISTRIBUTIONS, Distribution, counts
from regrow.core.errors import RegrowError, choose
from regrow.core.ranking import progressive
from regrow.core.rng import seed_of
from regrow.core.saliency import SALIENCIES, Batch, LossFn, Saliency
from regrow.core.topology import Topology, parameter_of
from regrow.execution.parts import Part, active, grouped
from regrow.execution.shards import is_sharded


@dataclass(frozen=True, eq=False)
class Scored:
    """How a first topology is chosen by scores.

    Args:
        saliency: a name from `regrow.core.saliency.SALIENCIES`, or a saliency.
        batch: (inputs, targets) to score on; None where the saliency does not run the model.
        loss: (outputs, targets) -> the loss.
        layers: a distribution that says how many weights each layer keeps; None lets all of them compete.
        floor: so many of each layer are kept before layers compete.
    """

    saliency: str | Saliency
    batch: Batch | None = None
    loss: LossFn = cross_entropy
    layers: str | Distribution | None = None
    floor: int = 0


def scored(model: nn.Module, parts: Mapping[str, Part], start: Scored, density: float, seed: int) -> Topology:
    """The topology of exactly round(density * numel) weights.

    Raises:
        RegrowError: an unknown name, no batch where one is needed, sparse layers, or a layer left without weights.
    """
    saliency = choose(SALIENCIES, start.saliency, "topology")() if isinstance(start.saliency, str) else start.saliency
    name = start.saliency if isinstance(start.saliency, str) else type(saliency).__name__
    if built := [part.name for part in parts.values() if part.built is not None]:
        raise RegrowError(
            f"topology={name!r} scores the weights of plain layers, but {built[0]!r} is a SparseLinear; start it with "
            "topology='built', or exclude it"
        )
    if sharded := [part.name for part in parts.values() if is_sharded(part.parameter)]:
        raise RegrowError(
            f"topology={name!r} scores whole weights, but {sharded[0]!r} is sharded: score the model before "
            "fully_shard, and give the Topology"
        )
    if saliency.runs and start.batch is None:
        raise RegrowError(
            f"topology={name!r} needs a batch to run the model on: give batch=(inputs, targets), ten of each class as "
            "regrow.core.balance.balanced(loader, classes) takes them"
        )
    values = {parameter_of(part.name): part.parameter.detach().clone().contiguous() for part in parts.values()}
    batch = _beside(values, start.batch)

    def score(left: Topology) -> dict[str, Tensor]:
        weights = {whole: value.clone() for whole, value in values.items()}
        for mine in grouped(parts.values()):
            weights[parameter_of(mine[0].name)].mul_(active(mine, left))
        found = saliency(model, weights, batch, start.loss)
        return {site: part.of(found[parameter_of(site)]) for site, part in parts.items()}

    shapes = {site: part.shape for site, part in parts.items()}
    numel = sum(part.numel for part in parts.values())
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed_of("saliency", seed))  # of the CPU alone, whose state is put back
        if start.layers is None:
            return progressive(score, shapes, round(density * numel), saliency.iterations, start.floor)
        layers = choose(DISTRIBUTIONS, start.layers, "layers")() if isinstance(start.layers, str) else start.layers
        return progressive(score, shapes, counts(shapes, layers(shapes, density)), saliency.iterations)


def _beside(values: Mapping[str, Tensor], batch: Batch | None) -> Batch:
    """On the device of the weights."""
    device = next(iter(values.values())).device
    inputs, targets = batch or (torch.empty(0), torch.empty(0))
    return inputs.to(device), targets.to(device)
