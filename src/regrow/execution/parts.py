"""Parts: which weights of a model are sites, and where each lives.

A site is usually one parameter, under the parameter's name. The fused projection of an attention layer is three sites,
`NAME[q]`, `NAME[k]` and `NAME[v]`: equal blocks of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from regrow.core.errors import RegrowError, nearest
from regrow.core.topology import Shape, Topology
from regrow.execution.refuse import refuse_lazy, refuse_module, refuse_weight
from regrow.execution.shards import whole
from regrow.execution.sparse_attention import SparseAttention
from regrow.execution.sparse_layer import SparseLayer

FUSED = ("q", "k", "v")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_PASSED_OVER = ("normalisation", "bias or vector")  # where a pattern means the weights around them
_SPARSE_BY_DEFAULT = (nn.Linear, _ConvNd, nn.MultiheadAttention)


@dataclass(frozen=True)
class Part:
    """The rows of a parameter that one site covers: all of them, or a third of a fused projection.

    `built`: the flat positions of the weights, if its layer is sparse: the parameter is then the vector of values.
    `start`: where in the parameter the part begins.
    """

    name: str
    parameter: nn.Parameter
    start: int
    shape: Shape
    built: Tensor | None = field(default=None, compare=False)

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def of(self, tensor: Tensor) -> Tensor:
        """Its stretch of a tensor shaped like the parameter, flat in logical order; a copy if that is not memory's."""
        return whole(tensor.detach()).reshape(-1)[self.start : self.start + self.numel]

    def mask(self, index: Tensor) -> Tensor:
        """Bool, shaped like the parameter: true at these positions of the part."""
        flat = torch.zeros(self.parameter.numel(), dtype=torch.bool, device=self.parameter.device)
        return flat.index_fill_(0, self.start + index.to(flat.device).long(), True).view(self.parameter.shape)


def grouped(parts: Iterable[Part]) -> list[list[Part]]:
    """The parts of each parameter, in their order."""
    found: dict[int, list[Part]] = {}
    for part in parts:
        found.setdefault(id(part.parameter), []).append(part)
    return list(found.values())


def active(parts: Sequence[Part], topology: Topology) -> Tensor:
    """Bool, shaped like the parameter that these are all the parts of: what exists. Rows that no site covers do."""
    parameter = parts[0].parameter
    flat = torch.ones(parameter.numel(), dtype=torch.bool, device=parameter.device)
    for part in parts:
        stretch = flat[part.start : part.start + part.numel]
        stretch.zero_().index_fill_(0, topology.index(part.name).to(flat.device).long(), True)
    return flat.view(parameter.shape)


@dataclass(frozen=True)
class Verdict:
    """What becomes of one parameter, and why; `parts` is empty if it stays dense."""

    name: str
    parameter: nn.Parameter
    reason: str
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Use:
    """A place where a parameter is used; tied weights have several."""

    name: str
    owner_name: str
    owner: nn.Module

    def matches(self, pattern: str) -> bool:
        names = (self.name, self.owner_name)
        return any(fnmatchcase(name, pattern) for name in names) or self.name.startswith(f"{pattern}.")


def survey(
    model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = (), trained: Iterable[Tensor] | None = None
) -> list[Verdict]:
    """Every parameter of the model, each once (tied weights are one site), and whether it is sparse.

    By default the weights of Linear and convolution layers and attention projections; `include` names others, or fewer.

    Args:
        include, exclude: patterns (`fnmatch`) for parameter or module names, or the exact name of a part.
        trained: the parameters an optimizer holds; others stay dense.

    Raises:
        RegrowError: a pattern matches nothing, names what cannot be sparse, or a layer cannot be masked.
    """
    refuse_lazy(model)
    known = {id(p) for p in (model.parameters() if trained is None else trained)}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    _refuse_modules(model, include, exclude, known)
    verdicts: list[Verdict] = []
    why: dict[str, str] = {}  # pattern -> "" if it did something, else why not
    for parameter, uses in _uses(model):
        use = next((u for u in uses if isinstance(u.owner, _SPARSE_BY_DEFAULT)), uses[0])
        wanted = {part: _matching(include, part, uses) for part in _parts(use.name, parameter, use.owner)}
        unwanted = {part: _matching(exclude, part, uses) for part in wanted}
        verdict = _judge(use, wanted, unwanted, _unfit(use, next(iter(wanted)), embeddings, known), bool(include))
        verdicts.append(verdict)
        for pattern in {p for patterns in wanted.values() for p in patterns}:
            why[pattern] = "" if verdict.parts else why.get(pattern, f"{verdict.name!r} stays {verdict.reason}")
        why |= dict.fromkeys((p for patterns in unwanted.values() for p in patterns), "")
    names = [verdict.name for verdict in verdicts]
    for pattern in (*include, *exclude):
        reason = why.get(pattern, f"it matches no parameter{nearest(pattern, names)}")
        if reason:
            raise RegrowError(
                f"include/exclude: {pattern!r} does nothing: {reason}. "
                "Patterns match parameter or module names, as in 'layer1.*' or 'fc'."
            )
    return verdicts


def _uses(model: nn.Module) -> list[tuple[nn.Parameter, list[Use]]]:
    found: dict[int, tuple[nn.Parameter, list[Use]]] = {}
    for owner_name, owner in model.named_modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            use = Use(f"{owner_name}.{leaf}" if owner_name else leaf, owner_name, owner)
            found.setdefault(id(parameter), (parameter, []))[1].append(use)
    return list(found.values())


def _matching(patterns: Sequence[str], part: Part, uses: Sequence[Use]) -> list[str]:
    return [p for p in patterns if p == part.name or any(use.matches(p) for use in uses)]


def _judge(
    use: Use, wanted: Mapping[Part, list[str]], unwanted: Mapping[Part, list[str]], unfit: str, choosy: bool
) -> Verdict:
    kind, parameter = type(use.owner).__name__, next(iter(wanted)).parameter
    left = [part for part in wanted if not unwanted[part]]
    asked = [pattern for part in left for pattern in wanted[part]]
    if not left:
        return Verdict(use.name, parameter, "dense: excluded by name")
    if unfit and asked and unfit not in _PASSED_OVER:
        raise RegrowError(f"include: {asked[0]!r} names {use.name!r}, which cannot be sparse: {unfit}")
    if unfit:
        return Verdict(use.name, parameter, f"dense: {unfit}")
    if choosy and not asked:
        return Verdict(use.name, parameter, "dense: not in include")
    if not asked and not (isinstance(use.owner, _SPARSE_BY_DEFAULT) and use.name.endswith("weight")):
        return Verdict(use.name, parameter, f"dense: parameter of {kind}, sparse only if include names it")
    refuse_weight(use.name, parameter)
    parts = tuple(part for part in left if wanted[part] or not choosy)
    return Verdict(use.name, parameter, f"sparse: weight of {kind}", parts)


def _unfit(use: Use, part: Part, embeddings: set[int], known: set[int]) -> str:
    """Why this parameter can never be a site, or nothing."""
    parameter = part.parameter
    if isinstance(use.owner, _NORMS):
        return "normalisation"
    if id(parameter) in embeddings:
        return "embedding"
    if len(part.shape) < 2 or use.name.rpartition(".")[2].startswith("bias"):
        return "bias or vector"
    if not parameter.requires_grad:
        return "frozen (requires_grad is False)"
    if id(parameter) not in known:
        return "not in the optimizer"
    return ""


def _refuse_modules(model: nn.Module, include: Sequence[str], exclude: Sequence[str], known: set[int]) -> None:
    """Refuses layers whose weights would be sparse, were they not computed from other tensors."""
    for name, owner in model.named_modules():
        use = Use(f"{name}.weight", name, owner)
        by_default = isinstance(owner, _SPARSE_BY_DEFAULT) and not include
        trained = any(p.requires_grad and id(p) in known for p in owner.parameters())
        if trained and (by_default or any(map(use.matches, include))) and not any(map(use.matches, exclude)):
            refuse_module(name, owner)


def _parts(name: str, parameter: nn.Parameter, owner: nn.Module) -> tuple[Part, ...]:
    leaf = name.rpartition(".")[2]
    layer = owner.projections.get(leaf) if isinstance(owner, SparseAttention) else owner
    built = layer if isinstance(layer, SparseLayer) and parameter is layer.weight else None
    shape: Shape = tuple(parameter.shape) if built is None else built.shape
    names = [f"{name}[{p}]" for p in FUSED] if leaf == "in_proj_weight" else [name]
    block = (shape[0] // len(names), *shape[1:])
    size = prod(block)
    if built is None:
        return tuple(Part(each, parameter, i * size, block) for i, each in enumerate(names))
    at = built.positions()
    ends = torch.searchsorted(at, torch.arange(len(names) + 1) * size).tolist()
    return tuple(
        Part(each, parameter, low, block, at[low:high] - i * size)
        for i, (each, low, high) in enumerate(zip(names, ends, ends[1:], strict=False))
    )


def locate(model: nn.Module, names: Iterable[str]) -> dict[str, Part]:
    """The part behind each site name.

    Raises:
        RegrowError: the model has no such parameter.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    for name in names:
        whole, _, _ = name.partition("[")
        if whole not in parameters:
            raise RegrowError(
                f"the topology has a site {name!r}, the model has no such weight{nearest(whole, parameters)}"
            )
        owner = model.get_submodule(whole.rpartition(".")[0])
        by_name = {part.name: part for part in _parts(whole, parameters[whole], owner)}
        if name not in by_name:
            raise RegrowError(f"the topology has a site {name!r}; the sites of this weight are {', '.join(by_name)}")
        found[name] = by_name[name]
    return found
