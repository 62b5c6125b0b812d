"""Which sites of a model run faster truly sparse? Measured on copies of it, at the user's own batch.

A unit is what is timed and decided whole, so that no sum of two branches meets two layouts: a block, or a layer that is
in none. Neighbours are decided alike unless that gains more than the transposition of what passes between them costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology, parameter_of
from regrow.execution import images
from regrow.execution.masked import MaskedBackend
from regrow.execution.parts import locate
from regrow.execution.sparse import SparseBackend
from regrow.execution.sparse_sites import places_of

MARGIN = 0.97
"""Of the dense seconds: what a sparse model must need at most, and a mixed one of the sparse seconds. Less is noise."""

ROUNDS, TURN = 3, 0.02
"""Turns of each way of running, and seconds of a turn at least."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a module."""


@dataclass
class Unit:
    """A module, its sites, and their seconds forward and backward; `crossing`: of its input into lanes and back."""

    name: str
    sites: list[str]
    dense: float = 0.0
    sparse: float = 0.0
    crossing: float = 0.0


@dataclass(frozen=True)
class Found:
    """The sites that had better run sparse, and the seconds of the whole model in each way, forward and backward."""

    sparse: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)


def find(model: nn.Module, topology: Topology, call: Call) -> Found:
    """What runs fastest. The model is only copied: no statistic of it changes, nor the state of random numbers.

    Raises:
        RegrowError: the model cannot be copied.
    """
    able = [name for name in topology if not _refusal(model, name)]
    if not able:
        return Found(())
    with torch.random.fork_rng(devices=[]):
        dense, sparse = (_copied(model, topology, sites) for sites in ((), able))
        units = _units(model, able, calls_of(dense, call))
        _time(units, dense, sparse, call)
        mixed = chosen(units)
        ways = {"dense": dense, "sparse": sparse}
        if 0 < len(mixed) < len(able):
            ways["mixed"] = _copied(model, topology, mixed)
        seconds = dict(zip(ways, in_turn([passes(way, call) for way in ways.values()]), strict=True))
    handicap = {"dense": 1.0, "sparse": 1 / MARGIN, "mixed": 1 / MARGIN**2}
    best = min(seconds, key=lambda way: seconds[way] * handicap[way])
    return Found({"dense": (), "sparse": tuple(able), "mixed": tuple(mixed)}[best], seconds)


def chosen(units: Sequence[Unit]) -> list[str]:
    """The sites of the units to run sparse: the least sum of seconds, crossings between unlike neighbours included."""
    if not units:
        return []
    cost, ways = {False: 0.0, True: units[0].crossing / 2}, {False: [False], True: [True]}
    for before, unit in zip([None, *units], units, strict=False):
        if before is not None:
            steps = {now: min((cost[was] + (was != now) * unit.crossing, was) for was in cost) for now in cost}
            cost, ways = {k: steps[k][0] for k in cost}, {k: [*ways[steps[k][1]], k] for k in cost}
        cost = {False: cost[False] + unit.dense, True: cost[True] + unit.sparse}
    best = ways[min(cost, key=lambda way: cost[way])]
    return [site for unit, sparse in zip(units, best, strict=True) if sparse for site in unit.sites]


def _refusal(model: nn.Module, name: str) -> str:
    try:
        places_of(model, locate(model, [name]))
    except RegrowError as error:
        return str(error)
    return ""


def _copied(model: nn.Module, topology: Topology, sparse: Collection[str]) -> nn.Module:
    """Without hooks, on this topology: these sites sparse, the others masked."""
    try:
        made = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise RegrowError(
            f"backend='auto' measures copies of the model, which cannot be copied: {error}; use 'sparse' or 'masked'"
        ) from error
    for module in made.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            hooks.clear()
    put(made, topology, sparse)
    return made


def put(
    model: nn.Module, topology: Topology, sparse: Collection[str], optimizer: Optimizer | None = None
) -> list[MaskedBackend | SparseBackend]:
    """Put these sites on a sparse backend, the others on a masked one."""
    parts: list[MaskedBackend | SparseBackend] = []
    for kind, names in ((SparseBackend, {*sparse}), (MaskedBackend, topology.keys() - {*sparse})):
        if names:
            parts.append(kind())
            parts[-1].attach(model, part_of(topology, names), optimizer)
    return parts


def part_of(topology: Topology, names: Collection[str]) -> Topology:
    """Its sites of these names, in its order."""
    kept = [name for name in topology if name in names]
    return Topology({name: topology.index(name) for name in kept}, {name: topology.shape(name) for name in kept})


def calls_of(model: nn.Module, call: Call) -> dict[str, Call]:
    """Module -> the arguments of its first call, in the order of these calls."""
    seen: dict[str, Call] = {}

    def note(name: str) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.setdefault(name, tree_map(_detached, (args, kwargs)))

        return before

    handles = [m.register_forward_pre_hook(note(name), with_kwargs=True) for name, m in model.named_modules()]
    model(*call[0], **call[1])
    for handle in handles:
        handle.remove()
    return seen


def _detached(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def _units(model: nn.Module, sites: Iterable[str], calls: Mapping[str, Call]) -> list[Unit]:
    """In the order in which they run; what never runs as a module is in none."""
    owners = {site: parameter_of(site).rpartition(".")[0] for site in sites}
    blocks = {owner: _block(model, owner) for owner in owners.values()}
    around = {block for block in blocks.values() if any(_within(other, block) for other in blocks.values())}
    units: dict[str, Unit] = {}
    for site, owner in owners.items():
        name = owner if blocks[owner] in around else blocks[owner]
        units.setdefault(name, Unit(name, [])).sites.append(site)
    order = {name: at for at, name in enumerate(calls)}
    return sorted((unit for unit in units.values() if unit.name in order), key=lambda unit: order[unit.name])


def _block(model: nn.Module, owner: str) -> str:
    """The innermost module around a layer that is more than a list of modules; the layer, if that is the model."""
    name = owner.rpartition(".")[0]
    while name and isinstance(model.get_submodule(name), _CONTAINERS):
        name = name.rpartition(".")[0]
    return name or owner


def _within(inner: str, outer: str) -> bool:
    return inner.startswith(f"{outer}.")


def _time(units: Sequence[Unit], dense: nn.Module, sparse: nn.Module, call: Call) -> None:
    calls = [calls_of(model, call) for model in (dense, sparse)]
    for unit in units:
        tasks = [passes(m.get_submodule(unit.name), c[unit.name]) for m, c in zip((dense, sparse), calls, strict=True)]
        unit.dense, unit.sparse = in_turn(tasks)
        unit.crossing = sum(map(_crossing, tree_leaves(calls[0][unit.name])))


def _crossing(value: Any) -> float:
    """Seconds to lay an image into lanes, and its gradient back."""
    if not isinstance(value, Tensor) or value.dim() != 4:
        return 0.0
    rows = value.detach().contiguous()
    return 2 * in_turn([lambda: images.lanes(rows)])[0]


def passes(module: nn.Module, call: Call) -> Callable[[], None]:
    """Forward and backward, from a gradient laid out as the output is."""
    args, kwargs = call
    grads: list[Tensor] = []

    def run() -> None:
        module.zero_grad()
        mine, named = tree_map(_own, (args, kwargs))  # what works in place may
        outputs = [out for out in _tensors(module(*mine, **named)) if out.requires_grad]
        grads.extend(torch.ones_like(out) for out in outputs[len(grads) :])
        if outputs:
            torch.autograd.backward(outputs, grads)

    return run


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _tensors(outputs: Any) -> Iterator[Tensor]:
    for leaf in outputs.values() if isinstance(outputs, Mapping) else tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, Mapping | tuple | list):
            yield from _tensors(leaf)


def in_turn(tasks: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of each, the least of rounds in which they take turns: what disturbs a machine only adds."""
    once = []
    for task in tasks:
        task()
        once.append(_seconds(task, 1))
    calls = [max(1, round(TURN / each)) for each in once]
    found = [[_seconds(task, n) for task, n in zip(tasks, calls, strict=True)] for _ in range(ROUNDS)]
    return [min(each) for each in zip(*found, strict=True)]


def _seconds(task: Callable[[], object], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        task()
    return (perf_counter() - start) / calls
