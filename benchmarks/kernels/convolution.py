"""A sparse 3x3 convolution, forward and backward with autograd included, against F.conv2d in its better memory format.

Images in lanes, as inside a chain of sparse layers, padding 1, batch 64; times as ratios.

python -m benchmarks.kernels.convolution [THREADS ...]
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass

import torch
from benchmarks.kernels.linear import both_ways
from benchmarks.paired import Comparison, Task, report
from torch import Tensor
from torch.nn.functional import conv2d

from regrow.execution import images, native
from regrow.execution.conv_ops import Geometry, sparse_conv2d
from regrow.execution.index import Index
from regrow.lab.paired import in_turn

SHAPES = {64: 32, 128: 16, 256: 8, 512: 4}  # channels, in and out -> height and width
EACH = {0.9: 2.6, 0.95: 4.2, 0.98: 7.0}
MEAN = {0.9: 3.0, 0.95: 5.0, 0.98: 9.0}
"""Times as fast as dense: in every cell at least, and in the geometric mean over the shapes."""
BATCH = 64
HOW = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
FORMATS = (torch.contiguous_format, torch.channels_last)


@dataclass(frozen=True)
class Mean:
    """The geometric mean over the cells of a sparsity."""

    sparsity: float
    gains: list[float]

    def line(self) -> str:
        gain, limit = statistics.geometric_mean(self.gains), MEAN[self.sparsity]
        verdict = "ok" if gain >= limit else "MISSED"
        return f"{self.sparsity:.0%}: geometric mean {gain:.2f}x of dense, limit {limit}x  {verdict}"


def keep_memory() -> None:
    """What tensors gave back stays with the process, as over the steps of a training: for all that is measured here."""
    for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        CDLL(None).mallopt(threshold, 1 << 30)


def layers(channels: int, sparsity: float) -> list[Task]:
    """The sparse layer, and the dense one in each format."""
    side = SHAPES[channels]
    weight = torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5
    mask = torch.rand(weight.numel()) >= sparsity
    index = Index.of(mask.nonzero().squeeze(1), (channels, 9 * channels))
    x, grad = (torch.randn(BATCH, channels, side, side) for _ in range(2))
    ours = images.lanes(x).clone(), weight.flatten()[mask]

    def dense(form: torch.memory_format) -> Task:
        theirs = x.clone(memory_format=form), weight.clone(memory_format=form)
        return both_ways(theirs, convolution(*theirs), grad.clone(memory_format=form))

    def convolution(image: Tensor, filters: Tensor) -> Callable[[], Tensor]:
        return lambda: conv2d(image, filters, padding=1)

    sparse = both_ways(ours, lambda: sparse_conv2d(*ours, None, index, HOW), images.lanes(grad))
    return [sparse, *map(dense, FORMATS)]


def against_dense(channels: int, sparsity: float) -> Comparison:
    ours, *dense = in_turn(layers(channels, sparsity), rounds=11, calls=1)
    theirs = min(dense, key=statistics.median)
    name = f"3x3, {channels} channels at {SHAPES[channels]}, batch {BATCH}, {sparsity:.0%}"
    return Comparison(name, ours, theirs, 1 / EACH[sparsity])


if __name__ == "__main__":
    keep_memory()
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        found = {s: [against_dense(c, s) for c in SHAPES] for s in EACH}
        means = [Mean(s, [1 / cell.ratio for cell in cells]) for s, cells in found.items()]
        report(f"sparse_conv_{native.isa()}", [*(cell for cells in found.values() for cell in cells), *means])
