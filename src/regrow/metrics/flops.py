"""FLOPs in two columns: algorithmic (what the topology asks for) and executed (what the backend does).

One multiply-add is 2 FLOPs. Products with a weight count: convolutions, linear layers, the projections of attention.
Biases, norms, activations, pooling and the products of attention maps do not, as in the papers' tables (Evci et al.
2020, arXiv:1911.11134; Liu et al. 2021, arXiv:2102.02887).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regrow.core.schedules import Every
from regrow.metrics.count import dense_flops

__all__ = ["Ledger", "dense_flops", "forward_flops", "run_flops"]


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

    An update that replaces its step costs what one that follows it costs: f_S + f_S + f_D. RigL's paper writes its row
    as (3 f_S I + 2 f_S + f_D) / (I + 1) with I plain steps between updates: the same, our interval being I + 1.

    Args:
        steps: T, optimizer steps of the run.
        batch_size: samples of a step.
        every: the method's updates; None for static and dense runs.
        needs: the method's; "dense_grad" and "dense_moment" cost.
    """

    steps: int
    batch_size: int
    every: Every | None = None
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
        if "dense_grad" not in self.needs or self.every is None:
            return 0.0
        return self.every.updates(self.steps) / self.steps

    def per_sample(self, sparse: float, dense: float) -> float:
        """FLOPs of training on one sample, the mean over the run: 3 f_S + (f_D - f_S) x the share above."""
        return 3 * sparse + self.dense_share * (dense - sparse)


def run_flops(
    dense: Mapping[str, int],
    densities: Mapping[str, float],
    ledger: Ledger,
    *,
    executed: Mapping[str, float] | None = None,
    reference_steps: int | None = None,
) -> dict[str, float]:
    """The FLOPs of a run, for its record.

    Args:
        dense: FLOPs of each layer if it were dense.
        densities: of the sparse layers; where a method changes them, their mean over the run.
        ledger: how long the run is, and what its updates cost.
        executed: densities the backend makes use of; none by default, as masked execution is dense arithmetic.
        reference_steps: length of the dense run to compare with; by default as long as this one.

    Returns:
        `inference` (one sample) and `training` (the whole run); each also `_executed`, `_dense` (the reference) and
        `_ratio` (algorithmic / reference).
    """
    columns = {"": densities, "_executed": executed or {}, "_dense": {}}
    inference = {name: forward_flops(dense, column) for name, column in columns.items()}
    full = inference["_dense"]
    training = {name: ledger.per_sample(inference[name], full) * ledger.samples for name in ("", "_executed")}
    training["_dense"] = 3 * full * (reference_steps or ledger.steps) * ledger.batch_size
    rows = {"inference": inference, "training": training}
    counted = {row + name: value for row, values in rows.items() for name, value in values.items()}
    return counted | {f"{row}_ratio": values[""] / values["_dense"] for row, values in rows.items()}
