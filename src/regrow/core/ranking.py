"""From scores of weights to a topology: exact counts, over all layers or in each, and no layer lost unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.positions import where
from regrow.core.select import chosen, select
from regrow.core.topology import Shape, Topology

Scores = Mapping[str, Tensor]
_WAY_OUT = "Raise the density, exclude the layer, keep some of each (floor=1), or share by layer (layers='erk')"
Budget = int | Mapping[str, int]
"""How many weights are kept: of all sites together, or of each."""


def keep(scores: Scores, n: Budget, among: Topology, floor: int = 0) -> Topology:
    """Of the weights in `among` those of the highest scores; ties to the earlier site, the lower position.

    Args:
        scores: site -> a score for every weight, as many as the site has.
        floor: so many of each site are kept before sites compete.

    Raises:
        RegrowError: a score is not a number, or the floor alone is more than n.
    """
    pool = {name: _eligible(name, scores[name], among, floor) for name in among}
    if isinstance(n, int) and floor and n < sum(min(floor, len(pool[name])) for name in pool):
        raise RegrowError(f"floor={floor} of each of {len(pool)} layers is more than the {n} weights there may be")
    return Topology({name: _positions(among, name, flags) for name, flags in best(pool, n).items()}, among.shapes)


def best(scores: Scores, n: Budget) -> dict[str, Tensor]:
    """Is a score one of the n highest? Flags; ties to the earlier site, the lower position."""
    if not isinstance(n, int):
        return {name: chosen(score, n[name]) for name, score in scores.items()}
    flags = chosen(torch.cat([*scores.values()]), n)
    return dict(zip(scores, torch.split(flags, [score.numel() for score in scores.values()]), strict=True))


def progressive(
    score: Callable[[Topology], Scores], shapes: Mapping[str, Shape], n: Budget, iterations: int = 1, floor: int = 0
) -> Topology:
    """Score what is left, keep the best, and again: after step t of T the density is D^(t/T), and n exactly at the end.

    (Tanaka et al. 2020, arXiv:2006.05467, alg. 1.)

    Raises:
        RegrowError: a layer has lost all of its weights, at whatever step.
    """
    if iterations < 1:
        raise RegrowError(f"iterations={iterations}: weights are scored once at least")
    topology = Topology.full(shapes)
    for step in range(1, iterations + 1):
        through = step / iterations
        left = (
            _between(topology.numel, n, through)
            if isinstance(n, int)
            else {name: _between(topology.numel_of(name), n[name], through) for name in n}
        )
        topology = keep(score(topology), left, topology, floor)
        refuse_collapse(topology, _WAY_OUT)
    return topology


def refuse_collapse(topology: Topology, way_out: str) -> None:
    """Raises:
    RegrowError: a layer has no weight left, so that nothing passes it.
    """
    empty = [name for name in topology if not topology.nnz_of(name)]
    if empty:
        lost = ", ".join(f"{name!r} has 0 of {topology.numel_of(name)}" for name in empty[:5])
        raise RegrowError(
            f"layer collapse: with {topology.nnz} of {topology.numel} weights left, {lost}"
            f"{f' and {len(empty) - 5} more' if len(empty) > 5 else ''}. {way_out}"
        )


def _between(whole: int, n: int, through: float) -> int:
    return n if through == 1.0 else round(whole * (n / whole) ** through)


def _whole(topology: Topology, name: str) -> bool:
    return topology.nnz_of(name) == topology.numel_of(name)


def _positions(among: Topology, name: str, flags: Tensor) -> Tensor:
    return where(flags) if _whole(among, name) else among.index(name).cpu()[flags]


def _eligible(name: str, score: Tensor, among: Topology, floor: int) -> Tensor:
    eligible = score.detach().reshape(-1).cpu()
    if not _whole(among, name):
        eligible = eligible[among.index(name).cpu()]
    if not bool(eligible.isfinite().all()):
        broken = int((~eligible.isfinite()).sum())
        raise RegrowError(
            f"{broken} of the {eligible.numel()} scores of {name!r} are not finite: the loss is not, or the model "
            "overflows; look at the batch and the weights"
        )
    return eligible.index_fill(0, select(eligible, min(floor, eligible.numel())), torch.inf) if floor else eligible
