"""Patterns: which supports are legal, and which candidates a legal support needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regrow.core.faster import may_be_faster
from regrow.core.positions import joined, only, reaching, room, where
from regrow.core.select import chosen, select


@dataclass(frozen=True)
class Candidates:
    """Positions worth growing and their scores, in ascending order of position: inactive ones, and those active ones
    that would be among the best of them, were they dropped."""

    position: Tensor
    score: Tensor

    def best(self, n: int, active: Tensor) -> Tensor:
        """The n best positions that are not flagged as active, ascending; ties to the lower position."""
        score = room(self.score.numel(), self.score.dtype, self.score.device).copy_(self.score)
        flags = chosen(score.masked_fill_(active, -torch.inf), n)
        del score, active  # what is returned takes their place
        return only(self.position, flags, n)

    def with_active(self, active: Tensor, signal: Tensor, k: int) -> Candidates:
        """These, the k best inactive ones, and the active ones that score no lower than all of them, by |signal|."""
        n = self.score.numel()
        if k == 0:
            return self
        signal = signal.to(self.score.dtype)  # of half precision, so that nothing is rounded as they are compared
        flags, more = reaching(signal, float(self.score.min()) if n >= k else torch.nan)
        size = only(signal, flags, more).abs_().nan_to_num_(nan=0.0, posinf=torch.inf)
        position = only(active, flags, more).to(self.position.dtype)
        del flags
        return Candidates(*joined(self.position, self.score, position, size))


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


def candidates(pattern: Pattern, signal: Tensor, index: Tensor, k: int) -> Candidates:
    """Those of a dense signal that a growth of k entries may need, whatever of the active positions is dropped."""
    return pattern.collect(signal, index, k).with_active(index, signal.reshape(-1).index_select(0, index), k)


def best_of(found: list[Candidates], k: int) -> Candidates:
    """The k best of all, which lie at ascending positions."""
    if len(found) == 1:
        position, score = found[0].position, found[0].score
    else:
        position, score = torch.cat([some.position for some in found]), torch.cat([some.score for some in found])
    k = min(k, score.numel())
    best = chosen(score, k)
    return Candidates(only(position, best, k), only(score, best, k))


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
