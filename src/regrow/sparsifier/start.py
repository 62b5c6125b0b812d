"""The topology a run starts from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from regrow.core import positions, rng
from regrow.core.distributions import DISTRIBUTIONS, Distribution, Overrides, counts
from regrow.core.errors import RegrowError, choose
from regrow.core.ranking import refuse_collapse
from regrow.core.saliency import SALIENCIES
from regrow.core.topology import Shape, Topology
from regrow.execution.parts import Part, Verdict
from regrow.execution.shards import local
from regrow.sparsifier.scored import Scored, scored

Start = str | Distribution | Topology | Scored


def parts_of(model: nn.Module, verdicts: Sequence[Verdict]) -> dict[str, Part]:
    """Site -> its part.

    Raises:
        RegrowError: there is none.
    """
    parts = {part.name: part for verdict in verdicts for part in verdict.parts}
    if not parts:
        telling = sorted(verdicts, key=lambda verdict: "include" not in verdict.reason)  # what could be sparse, first
        seen = ", ".join(f"{verdict.name} ({verdict.reason})" for verdict in telling[:4]) or "none"
        raise RegrowError(
            f"{type(model).__name__} has no sparse site: no trained weight of a Linear, convolution or attention layer "
            f"is left. Parameters: {seen}"
        )
    return parts


def start_topology(
    model: nn.Module,
    parts: Mapping[str, Part],
    start: Start,
    density: float | None,
    overrides: Mapping[str, float] | None,
    seed: int,
) -> Topology:
    """The first topology: drawn at random by a distribution, the weights of highest saliency ("snip", "magnitude"),
    that of the model's SparseLinear layers ("built"), or the one given.

    Raises:
        RegrowError: an unknown start, a density that cannot be, or sites that differ from the model's.
    """
    if overrides and (isinstance(start, Topology | Scored) or start == "built"):
        raise RegrowError("overrides shape a random start; with a saliency or a Topology leave them out")
    if isinstance(start, Topology):
        return _given(parts, start, density)
    if isinstance(start, Scored):
        return scored(model, parts, start, _checked(density), seed)
    if start == "built" or any(part.built is not None for part in parts.values()):
        return _given(parts, _built(parts, start), density)
    density = _checked(density)
    distribution = DISTRIBUTIONS[start]() if isinstance(start, str) else start
    if overrides:
        distribution = Overrides(distribution, overrides)
    return drawn(parts, distribution, density, seed)


def drawn(parts: Mapping[str, Part], distribution: Distribution, density: float, seed: int) -> Topology:
    """A random topology with exactly the distribution's counts, a function of (seed, site name)."""
    shapes = {name: part.shape for name, part in parts.items()}
    count = counts(shapes, distribution(shapes, density))
    index = {name: _sample(part.numel, count[name], rng.generator(seed, 0, name)) for name, part in parts.items()}
    return Topology(index, shapes)


def _sample(numel: int, n: int, generator: Generator) -> Tensor:
    found = positions.sample(numel, n, generator)
    return positions.settled(found, found.dtype)


def called(start: Start) -> Start:
    """The start, if it is called by name: a saliency, a distribution, or the model's own sparse layers ("built")."""
    if not isinstance(start, str) or start in ("built", *DISTRIBUTIONS):
        return start
    choose(dict.fromkeys(("built", *DISTRIBUTIONS, *SALIENCIES)), start, "topology")
    return Scored(start)


def keeps(start: Start) -> bool:
    """Whether it looks at what a model has learnt; a random start does not."""
    if isinstance(start, Scored):
        return start.saliency != "random"
    return isinstance(start, Topology) or start == "built"


def warn_if_trained(model: nn.Module, optimizer: Optimizer) -> None:
    """Warns when a random topology is about to destroy what training has left: statistics or optimizer state."""
    counted = (b for name, b in model.named_buffers() if name.endswith("num_batches_tracked"))
    norms = (m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._NormBase))
    scales = (local(m.weight).flatten() for m in norms if isinstance(m.weight, nn.Parameter))
    moved = any(bool((scale != scale[:1]).any()) for scale in scales)
    if moved or any(int(b) > 0 for b in counted) or any(map(_stepped, optimizer.state.values())):
        warnings.warn(
            "the model looks trained and a random topology will destroy most of its weights; "
            "topology='magnitude' keeps the largest ones",
            UserWarning,
            stacklevel=4,
        )


def _stepped(state: dict[str, Any]) -> bool:
    return bool(state) and float(state.get("step", 1)) > 0  # Adagrad has a state before its first step


def _checked(density: float | None) -> float:
    if density is None:
        raise RegrowError("sparsify needs density=... (the share of weights kept) or sparsity=... (the share removed)")
    if not 0.0 < density <= 1.0:
        raise RegrowError(
            f"density {density:g} is outside (0, 1]; it is the share of weights kept: .1 is 90 % sparsity"
        )
    return density


def _built(parts: Mapping[str, Part], start: object) -> Topology:
    index = {name: part.built for name, part in parts.items() if part.built is not None}
    dense = [name for name in parts if name not in index]
    if start != "built" or dense:
        raise RegrowError(
            f"topology={start!r}: SparseLinear layers ({', '.join([*index][:3])}) start with topology='built', others "
            f"({', '.join(dense[:3])}) do not; exclude one kind, or give a Topology of all"
        )
    return Topology(index, {name: parts[name].shape for name in index})


def _given(parts: Mapping[str, Part], topology: Topology, density: float | None) -> Topology:
    shapes = {name: part.shape for name, part in parts.items()}
    if topology.shapes != shapes:
        wrong = sorted(name for name in {*topology, *shapes} if topology.shapes.get(name) != shapes.get(name))
        found = ", ".join(f"{name} ({_shape(topology.shapes, name)}, {_shape(shapes, name)})" for name in wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise RegrowError(
            f"the topology given and the model's sparse sites differ: {found}{more} (shape given, shape in the model); "
            "use include/exclude for layers that are to stay dense, or take the model that the topology is of"
        )
    refuse_collapse(topology, "Take another mask, or exclude the layer so that it stays dense")
    if density is not None and abs(topology.density - density) > 0.5 / topology.numel:
        raise RegrowError(f"density {density:g} contradicts the topology given ({topology!r}); leave one of them out")
    return topology


def _shape(shapes: Mapping[str, Shape], name: str) -> str:
    return "x".join(map(str, shapes[name])) if name in shapes else "none"
