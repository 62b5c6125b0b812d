"""Parts: which weights of a model are sites, and where each lives.

A site is usually one parameter, under the parameter's name. The fused projection of an attention layer is three sites,
`NAME[q]`, `NAME[k]` and `NAME[v]`: equal blocks of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from regrow.core.errors import RegrowError, nearest
from regrow.core.topology import Shape
from regrow.execution.refuse import refuse_module, refuse_weight

FUSED = ("q", "k", "v")
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_SPARSE_BY_DEFAULT = (nn.Linear, _ConvNd, nn.MultiheadAttention)


@dataclass(frozen=True)
class Part:
    """The rows of a parameter that one site covers: all of them, or a third of a fused projection."""

    name: str
    parameter: nn.Parameter
    start: int
    shape: Shape

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def of(self, tensor: Tensor) -> Tensor:
        """Its stretch of a tensor shaped like the parameter, flat in logical order (a copy if memory order differs)."""
        return tensor.detach().reshape(-1)[self.start : self.start + self.numel]


@dataclass(frozen=True)
class Verdict:
    """What becomes of one parameter, and why; `parts` is empty if it stays dense."""

    name: str
    parameter: nn.Parameter
    reason: str
    parts: tuple[Part, ...] = ()


def survey(
    model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = (), trained: Iterable[Tensor] | None = None
) -> list[Verdict]:
    """Every parameter of the model, each once (tied weights are one site), and whether it is sparse.

    By default the weights of Linear and convolution layers and attention projections; `include` names others, or fewer.

    Args:
        include, exclude: patterns (`fnmatch`) for parameter, part or module names.
        trained: the parameters an optimizer holds; others stay dense.

    Raises:
        RegrowError: a pattern matches nothing, names what cannot be sparse, or a layer cannot be masked.
    """
    known = None if trained is None else {id(p) for p in trained}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    verdicts: dict[int, Verdict] = {}
    unmatched = {*include, *exclude}
    for owner_name, owner in model.named_modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            name = f"{owner_name}.{leaf}" if owner_name else leaf
            wanted = [p for p in include if _matches(p, name, owner_name)]
            unwanted = [p for p in exclude if _matches(p, name, owner_name)]
            unmatched -= {*wanted, *unwanted}
            if id(parameter) in verdicts:
                continue
            why_not = "excluded by name" if unwanted else _unfit(owner, parameter, embeddings, known)
            verdicts[id(parameter)] = _judge(name, owner, parameter, why_not, wanted, bool(include))
    for pattern in sorted(unmatched):
        raise RegrowError(
            f"include/exclude: {pattern!r} matches no parameter{nearest(pattern, (v.name for v in verdicts.values()))} "
            "Patterns match parameter or module names, as in 'layer1.*' or 'fc'."
        )
    return list(verdicts.values())


def _judge(
    name: str, owner: nn.Module, parameter: nn.Parameter, why_not: str, wanted: list[str], choosy: bool
) -> Verdict:
    kind = type(owner).__name__
    if why_not and wanted and why_not not in ("bias or vector", "excluded by name"):
        raise RegrowError(f"include: {wanted[0]!r} names {name!r}, which cannot be sparse: {why_not}")
    if why_not:
        return Verdict(name, parameter, f"dense: {why_not}")
    if choosy and not wanted:
        return Verdict(name, parameter, "dense: not in include")
    if not wanted and not isinstance(owner, _SPARSE_BY_DEFAULT):
        return Verdict(name, parameter, f"dense: weight of {kind}, sparse only if include names it")
    refuse_module(name, owner)
    refuse_weight(name, parameter)
    return Verdict(name, parameter, f"sparse: weight of {kind}", _parts(name, parameter))


def _unfit(owner: nn.Module, parameter: nn.Parameter, embeddings: set[int], known: set[int] | None) -> str:
    """Why this parameter can never be a site, or nothing."""
    if isinstance(owner, _NORMS):
        return "normalisation"
    if id(parameter) in embeddings:
        return "embedding"
    if nn.parameter.is_lazy(parameter):
        return ""  # refused by name when its layer is judged
    if parameter.dim() < 2:
        return "bias or vector"
    if not parameter.requires_grad:
        return "frozen (requires_grad is False)"
    if known is not None and id(parameter) not in known:
        return "not in the optimizer"
    return ""


def _matches(pattern: str, name: str, owner: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(owner, pattern) or name.startswith(f"{pattern}.")


def _parts(name: str, parameter: nn.Parameter) -> tuple[Part, ...]:
    shape = tuple(parameter.shape)
    if not name.endswith("in_proj_weight"):
        return (Part(name, parameter, 0, shape),)
    block = (shape[0] // len(FUSED), *shape[1:])
    return tuple(Part(f"{name}[{p}]", parameter, i * prod(block), block) for i, p in enumerate(FUSED))


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
        by_name = {part.name: part for part in _parts(whole, parameters[whole])}
        if name not in by_name:
            raise RegrowError(f"the topology has a site {name!r}; the sites of this weight are {', '.join(by_name)}")
        found[name] = by_name[name]
    return found
