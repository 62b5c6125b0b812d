"""Counter-based randomness: a function of its key (seed, step, name), never of history."""

from __future__ import annotations

from hashlib import blake2b

from torch import Generator


def seed_of(*key: int | str) -> int:
    """63 random bits, the same on every rank, machine and run for an equal key."""
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> Generator:
    """A CPU generator for `key`. Nothing to broadcast between ranks, nothing to checkpoint (law 4)."""
    return Generator().manual_seed(seed_of(*key))
