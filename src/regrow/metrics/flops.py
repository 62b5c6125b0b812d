"""FLOPs in two columns: algorithmic (what the topology asks for) and executed (what the backend does).

One multiply-add is 2 FLOPs. Products with a weight count: convolutions, linear layers, the projections of attention.
Biases, norms, activations, pooling and the products of attention maps do not, as in the papers' tables (Evci et al.
2020, arXiv:1911.11134; Liu et al. 2021, arXiv:2102.02887).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from regrow.metrics.count import dense_flops

__all__ = ["Ledger", "Live", "dense_flops", "forward_flops", "run_flops"]


def forward_flops(dense: Mapping[str, int], densities: Mapping[str, float]) -> float:
    """f = sum over layers of 2 MACs_l d_l: one forward pass; a layer without a density is dense.

    Args:
        dense: FLOPs of each layer if it were dense, as `dense_flops` counts them.
        densities: of the sparse ones, `Topology.densities()`.
    """
    return sum(flops * densities.get(name, 1.0) for name, flops in dense.items())


@dataclass(frozen=True)
class Ledger:
    """What a run costs per sample, given f_S and f_D, the FLOPs of a sparse and a dense forward pass.

    A backward pass is two more products per layer: by the weights (f_S) and for their gradient (f_S, or f_D if dense).

    ================================  =============================================================================
    dense                             3 f_D
    static, random growth             3 f_S
    dense gradient on U of T steps    [3 f_S (T - U) + (2 f_S + f_D) U] / T
    dense momentum (SNFS)             2 f_S + f_D
    ================================  =============================================================================

    All are linear in f_S: where densities change (GraNet, GMP, SNFS), f_S of their means is the mean over the run.

    An update that replaces its step costs what one that follows it costs: f_S + f_S + f_D. RigL's paper writes its row
    as (3 f_S I + 2 f_S + f_D) / (I + 1) with I plain steps between updates: the same, our interval being I + 1.

    Args:
        steps: T, optimizer steps of the run.
        batch_size: samples of a step.
        updates: U, topology updates of the run, its explorations included.
        needs: the method's; "dense_grad" and "dense_moment" cost.
    """

    steps: int
    batch_size: int
    updates: int = 0
    needs: frozenset[str] = frozenset()

    @property
    def samples(self) -> int:
        """Samples seen, each as often as it is."""
        return self.steps * self.batch_size

    @property
    def dense_share(self) -> float:
        """Share of the steps that compute a dense weight gradient, in [0, 1]."""
        if "dense_moment" in self.needs:
            return 1.0
        return self.updates / self.steps if "dense_grad" in self.needs else 0.0

    def per_sample(self, sparse: float, dense: float) -> float:
        """FLOPs of training on one sample, the mean over the run: 3 f_S + (f_D - f_S) x the share above."""
        return 3 * sparse + self.dense_share * (dense - sparse)


def run_flops(
    dense: Mapping[str, int],
    densities: Mapping[str, float],
    ledger: Ledger,
    *,
    final: Mapping[str, float] | None = None,
    sparse: Collection[str] = (),
    reference_steps: int | None = None,
) -> dict[str, float]:
    """The FLOPs of a run, for its record.

    Args:
        dense: FLOPs of each layer if it were dense.
        densities: of the sparse layers; where a method changes them, their mean over the run.
        ledger: how long the run is, and what its updates cost.
        final: the densities it ends with, if others; inference has these.
        sparse: the layers where the backend makes use of them. Masked execution is dense arithmetic.
        reference_steps: length of the dense run to compare with; by default as long as this one.

    Returns:
        `inference` (one sample) and `training` (the whole run); each also `_executed`, `_dense` (the reference) and
        `_ratio` (algorithmic / reference).
    """
    full = forward_flops(dense, {})
    inference, mean = (_columns(dense, held, sparse) for held in (densities if final is None else final, densities))
    training = {name: ledger.per_sample(forward, full) * ledger.samples for name, forward in mean.items()}
    training["_dense"] = 3 * full * (reference_steps or ledger.steps) * ledger.batch_size
    rows = {"inference": inference, "training": training}
    counted = {row + name: value for row, values in rows.items() for name, value in values.items()}
    return counted | {f"{row}_ratio": values[""] / values["_dense"] for row, values in rows.items()}


def _columns(dense: Mapping[str, int], densities: Mapping[str, float], sparse: Collection[str]) -> dict[str, float]:
    used = {name: density for name, density in densities.items() if name in sparse}
    return {
        "": forward_flops(dense, densities),
        "_executed": forward_flops(dense, used),
        "_dense": forward_flops(dense, {}),
    }


class Live(Mapping[str, float]):
    """The FLOPs of a run, counted when they are read: before it those of its first densities, at its end its own."""

    def __init__(self, count: Callable[[], Mapping[str, float]]) -> None:
        self._count = count

    def __getitem__(self, name: str) -> float:
        return self._count()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._count())

    def __len__(self) -> int:
        return len(self._count())
