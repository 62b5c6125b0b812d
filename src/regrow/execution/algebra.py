"""The algebra of positions on the kernels: what takes the place of core's functions marked `may_be_faster`.

Each does exactly what the plain one does, or returns NotImplemented for tensors the kernels do not take.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Generator, Tensor

from regrow.core.positions import Match
from regrow.execution import native, scratch

Result = Any
"""What the plain function returns, or NotImplemented."""

_SIZES = (1, 2, 4, 8)
"""Bytes of an entry of what is kept and carried."""

_PAST = 32
"""Entries past the end of what is kept that the kernels may read."""


def _serves(*tensors: Tensor) -> bool:
    for tensor in tensors:
        if not (tensor.is_cpu and tensor.is_contiguous()):
            return False
    return _installed() and native.isa() != "reference"


@cache
def _installed() -> bool:
    """Where kernels are missing, only sparse layers say so."""
    return files(__package__).joinpath(native.NAME).is_file()


def room(n: int, dtype: torch.dtype, device: torch.device) -> Result:
    """With a line to spare: of the two parts that later take its place, the second begins on one."""
    return scratch.passing(n + _PAST, dtype)[:n] if device.type == "cpu" else NotImplemented


def lasting(n: int, dtype: torch.dtype, device: torch.device) -> Result:
    return scratch.lasting(n, dtype) if device.type == "cpu" else NotImplemented


def match(old: Tensor, new: Tensor) -> Result:
    if not _serves(old, new):
        return NotImplemented
    stay, known = (scratch.passing(at.numel(), torch.bool) for at in (old, new))
    threads = torch.get_num_threads()
    both = native.call("match", *_set(old), *_set(new.to(old.dtype)), _wide(old), stay, known, threads)
    return Match(stay, known, both)


def contains(positions: Tensor, queries: Tensor) -> Result:
    return match(positions, queries).known if _serves(positions, queries) else NotImplemented


def only(values: Tensor, flags: Tensor, n: int) -> Result:
    if not _serves(values, flags) or values.itemsize not in _SIZES:
        return NotImplemented
    kept = scratch.passing(n, values.dtype)
    native.call("only", values, *_set(flags), values.itemsize, kept, torch.get_num_threads())
    return kept


def carry(values: Tensor, match: Match, fresh: float, into: Tensor | None = None) -> Result:
    carried = values.new_empty(match.known.numel()) if into is None else into
    if not _serves(values, *match[:2], carried) or values.itemsize not in _SIZES:
        return NotImplemented
    given = values, *_set(match.stay), *_set(match.known), values.itemsize, _number(fresh, values.dtype)
    native.call("carry", *given, carried, scratch.passing(match.both + _PAST, values.dtype), torch.get_num_threads())
    return carried


@cache
def _number(number: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(number, dtype=dtype)


def union(a: Tensor, b: Tensor, into: Tensor | None = None) -> Result:
    if not _serves(a, b):
        return NotImplemented
    both = a.new_empty(a.numel() + b.numel()) if into is None else into
    total = native.call("union", *_set(a), *_set(b.to(a.dtype)), _wide(a), both, torch.get_num_threads())
    return both if total == both.numel() else both[:total].clone() if into is None else both[:total]


def joined(a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> Result:
    if not _serves(a, x, b, y) or not (x.dtype is y.dtype is torch.float32 and a.dtype is b.dtype):
        return NotImplemented
    n = a.numel() + b.numel()
    both, values = (scratch.passing(n, one.dtype) for one in (a, x))
    given = a, x, a.numel(), b, y, b.numel(), _wide(a)
    native.call("joined", *given, both, values, torch.get_num_threads())
    return both, values


def reaching(values: Tensor, bound: float) -> Result:
    if not _serves(values) or values.dtype is not torch.float32:
        return NotImplemented
    flags = scratch.passing(values.numel(), torch.bool)
    return flags, native.call("reaching", *_set(values), bound, flags, torch.get_num_threads())


_MANY = 4096
"""Draws from which on it pays to take torch's generator over and give it back."""

_SINGLE = 1 << 28
"""Numbers up to which torch draws 32 bits for one, in all its versions."""


def draws(numel: int, n: int, generator: Generator) -> Result:
    if n < _MANY or numel >= _SINGLE or not _serves() or not _as_known():
        return NotImplemented
    return _drawn(numel, n, generator)


def _drawn(numel: int, n: int, generator: Generator) -> Tensor:
    found, state = scratch.passing(n, torch.int32), generator.get_state()
    native.call("draws", state, numel, n, found, torch.get_num_threads())
    generator.set_state(state)
    return found


@cache
def _as_known() -> bool:
    """Does torch keep and use its generator's state as the kernel does?"""
    one, other = (Generator().manual_seed(1) for _ in range(2))
    if one.get_state().numel() != 5056:
        return False
    same = [torch.equal(_drawn(1000, n, one), torch.randint(1000, (n,), generator=other).int()) for n in (1, 700, 624)]
    return all(same) and torch.equal(one.get_state(), other.get_state())


def ascend(positions: Tensor, numel: int) -> Result:
    if not _serves(positions) or positions.dtype not in (torch.int32, torch.int64):
        return NotImplemented
    return bool(native.call("ascend", *_set(positions), _wide(positions), numel, torch.get_num_threads()))


def distinct(positions: Tensor) -> Result:
    if not _serves(positions) or positions.numel() == 0:
        return NotImplemented
    place, largest = scratch.passing(positions.numel(), positions.dtype), int(positions.max())
    n = native.call("distinct", *_set(positions), _wide(positions), largest, place, torch.get_num_threads())
    native.done(n < 0)
    return positions[:n]


def absent(positions: Tensor, ranks: Tensor) -> Result:
    if not _serves(positions, ranks):
        return NotImplemented
    found, wide = scratch.passing(ranks.numel(), ranks.dtype), (_wide(positions), _wide(ranks))
    native.call("absent", *_set(positions), *_set(ranks), *wide, found, torch.get_num_threads())
    return found


def mark(table: Tensor, positions: Tensor) -> Result:
    if not _serves(table, positions):
        return NotImplemented
    return native.call("mark", table, *_set(positions), _wide(positions), torch.get_num_threads())


def listed(table: Tensor, n: int, dtype: torch.dtype) -> Result:
    if not _serves(table):
        return NotImplemented
    found = torch.empty(n, dtype=dtype)
    native.call("list", *_set(table), _wide(found), found, torch.get_num_threads())
    return found


def highest(score: Tensor, n: int) -> Result:
    if not _serves(score) or score.dtype is not torch.float32:
        return NotImplemented
    flags = scratch.passing(score.numel(), torch.bool)
    native.call("select", *_set(score), n, flags, torch.get_num_threads())
    return flags


def rivals(signal: Tensor, active: Tensor, k: int, above: float) -> Result:
    if not _serves(signal, active) or signal.dtype is not torch.float32 or k < 1:
        return NotImplemented
    threads = torch.get_num_threads()
    if above == -torch.inf:
        above = native.call("floor", *_set(signal), k + active.numel(), threads)
    position, size = active.new_empty(signal.numel()), torch.empty(signal.numel())
    n = native.call("above", *_set(signal), *_set(active), _wide(active), above, position, size, threads)
    return position[:n], size[:n]


def _set(positions: Tensor) -> tuple[Tensor, int]:
    return positions, positions.numel()


def _wide(positions: Tensor) -> bool:
    return positions.dtype is torch.int64


_MEMORY, _DRAWN = (room, lasting), (draws, distinct, absent)
_SETS, _CHOSEN = (ascend, match, contains, only, carry, union, joined, reaching, mark, listed), (highest, rivals)
KERNELS = {f.__name__: f for f in (*_MEMORY, *_DRAWN, *_SETS, *_CHOSEN)}
