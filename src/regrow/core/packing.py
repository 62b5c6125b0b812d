"""Sets of positions in few bits: never more than one a place of the space, near the entropy where they are rare."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.core import positions


def pack(at: Tensor, numel: int) -> Tensor:
    """The ascending positions `at` [n] of range(numel) as bytes, uint8. `unpack` needs n and numel too.

    Of the set and its complement the rarer is coded: as a bit for every place, or by Elias and Fano (1974), whichever
    is smaller: the low k bits of each position, and a bitmap in which a one is a position and the number of zeros
    before it the position's high bits.
    """
    at = at.cpu().long()
    if 2 * at.numel() > numel:
        at = positions.absent(at, torch.arange(numel - at.numel()))
    n, k = at.numel(), _low_bits(at.numel(), numel)
    if k is None:
        return _bits(at, numel)
    low = [_bits(positions.where((at >> bit) & 1 == 1), n) for bit in range(k)]
    return torch.cat([*low, _bits((at >> k) + torch.arange(n), _high(n, numel, k))])


def unpack(code: Tensor, n: int, numel: int) -> Tensor:
    """The ascending positions [n], int64, that `pack` was given.

    Raises:
        ValueError: these bytes are no such code.
    """
    few = min(n, numel - n)
    if not 0 <= n <= numel or code.numel() != size(n, numel):
        raise ValueError(f"{code.numel()} bytes are no code of {n} of {numel} positions")
    k, plane = _low_bits(few, numel), -(-few // 8)
    low = [_places(code[bit * plane : (bit + 1) * plane]) for bit in range(k or 0)]
    at = _places(code[len(low) * plane :])
    if at.numel() != few or not all(bool((which < few).all()) for which in low):
        raise ValueError(f"these bytes are no code of {n} of {numel} positions")
    if k is not None:
        at = (at - torch.arange(few)) << k
        for bit, which in enumerate(low):
            at[which] += 1 << bit
    return at if few == n else positions.absent(at, torch.arange(n))


def size(n: int, numel: int) -> int:
    """Bytes of the code of n of numel positions: at most ceil(numel / 8)."""
    few = min(n, numel - n)
    k = _low_bits(few, numel)
    return -(-numel // 8) if k is None else _coded(few, numel, k)


def _low_bits(n: int, numel: int) -> int | None:
    """How many low bits of each position are kept apart in the smallest code; None: a bit for every place."""
    best = min(range(numel.bit_length() + 1), key=lambda k: _coded(n, numel, k))
    return best if _coded(n, numel, best) < -(-numel // 8) else None


def _coded(n: int, numel: int, k: int) -> int:
    return k * -(-n // 8) + -(-_high(n, numel, k) // 8)


def _high(n: int, numel: int, k: int) -> int:
    return n + (numel >> k) if n else 0


def _bits(at: Tensor, numel: int) -> Tensor:
    flags = torch.zeros(-(-numel // 8) * 8, dtype=torch.uint8).index_fill_(0, at, 1).view(-1, 8)
    return (flags << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _places(bits: Tensor) -> Tensor:
    return positions.where(((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).reshape(-1))
