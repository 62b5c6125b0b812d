"""Patterns: which supports are legal, and which candidates a legal support needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regrow.core.faster import may_be_faster
from regrow.core.positions import carry, match, only, room, union, where
from regrow.core.select import chosen, select


@dataclass(frozen=True)
class Candidates:
    """Inactive positions worth growing and their scores, [k] each, in ascending order of position."""

    position: Tensor
    score: Tensor

    def best(self, n: int) -> Tensor:
        """The n best positions, ascending; ties to the lower position."""
        return only(self.position, chosen(self.score, n), n)

    def joined_by(self, position: Tensor, score: Tensor) -> Candidates:
        """These and more (disjoint) candidates together."""
        size = self.position.numel() + position.numel()
        both = union(self.position, position, room(size, self.position.dtype, position.device))
        ours = match(self.position, both)
        joined = carry(self.score, ours, 0.0, room(both.numel(), self.score.dtype, both.device))
        joined[where(~ours.known)] = score.to(joined.dtype)
        return Candidates(both, joined)


class Pattern(Protocol):
    """Which supports are legal: unstructured; N:M, block and constant fan-in fit the same two verbs."""

    def support(self, score: Tensor, n: int, among: Tensor | None = None) -> Tensor:
        """The best legal support of n entries: ascending flat positions."""

    def collect(self, signal: Tensor, index: Tensor, k: int, above: float = -torch.inf) -> Candidates:
        """The k inactive positions a legal growth of k entries may need, by |signal|.

        Args:
            signal: dense, shaped like the weight.
            index: active positions, [nnz].
            above: those that score no higher are not needed.
        """


@dataclass(frozen=True)
class Unstructured:
    """Every support is legal."""

    def support(self, score: Tensor, n: int, among: Tensor | None = None) -> Tensor:
        return select(score.reshape(-1), n, among)

    def collect(self, signal: Tensor, index: Tensor, k: int, above: float = -torch.inf) -> Candidates:
        position, score = rivals(signal.reshape(-1), index, min(k, signal.numel() - index.numel()), above)
        if score.numel() <= k:
            return Candidates(position, score)
        best = select(score, k)
        return Candidates(position[best], score[best])


@may_be_faster
def rivals(signal: Tensor, active: Tensor, k: int, above: float) -> tuple[Tensor, Tensor]:
    """Inactive positions, ascending, and their |signal|: the k best of those above the bound, and perhaps more."""
    score = signal.abs().nan_to_num_(nan=0.0, posinf=torch.inf)  # a NaN too beats what is active
    score.index_fill_(0, active.long(), -torch.inf)
    among = where(score > above) if above > -torch.inf else None
    best = select(score, k if among is None else min(k, among.numel()), among)
    return best.to(active.dtype), score[best]


UNSTRUCTURED = Unstructured()
