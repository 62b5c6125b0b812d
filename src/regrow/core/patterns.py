"""Patterns: which supports are legal, and which candidates a legal support needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from regrow.core.positions import ascending, where
from regrow.core.select import select


@dataclass(frozen=True)
class Candidates:
    """Inactive positions worth growing and their scores, [k] each, in ascending order of position."""

    position: Tensor
    score: Tensor

    def best(self, n: int) -> Tensor:
        """The n best positions, ascending; ties to the lower position."""
        return self.position[select(self.score, n)]

    def joined_by(self, position: Tensor, score: Tensor) -> Candidates:
        """These and more (disjoint) candidates together."""
        both = torch.cat([self.position.to(position.dtype), position])
        order = ascending(both)
        return Candidates(both[order], torch.cat([self.score, score.to(self.score.dtype)])[order])


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
        score = signal.reshape(-1).abs().nan_to_num_(nan=0.0, posinf=torch.inf)  # a NaN too beats what is active
        k = min(k, score.numel() - index.numel())
        score.index_fill_(0, index.long(), -torch.inf)
        among = where(score > above) if above > -torch.inf else None
        best = select(score, k if among is None else min(k, among.numel()), among)
        return Candidates(best, score[best])


UNSTRUCTURED = Unstructured()
