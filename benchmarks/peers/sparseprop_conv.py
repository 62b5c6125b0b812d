"""A sparse 3x3 convolution against SparseProp's in the faster of its two ways, and F.conv2d: all in one process.

Ours in lanes, theirs as their module takes images (NCHW), each as inside a chain of its own.

sh benchmarks/peers/install.sh VENV; VENV/bin/python -m benchmarks.peers.sparseprop_conv [THREADS ...]
"""

from __future__ import annotations

import statistics
import sys

import torch
from benchmarks.kernels.convolution import BATCH, EACH, HOW, SHAPES, keep_memory
from benchmarks.kernels.linear import both_ways
from benchmarks.paired import Task, report
from benchmarks.peers.sparseprop import Cell, Overall
from sparseprop.modules import SparseConv2d
from torch import nn
from torch.nn.functional import conv2d

from regrow.execution import images
from regrow.execution.conv_ops import sparse_conv2d
from regrow.execution.index import Index
from regrow.lab.paired import in_turn

LEAST, MEDIAN = 1.6, 2.0
"""Times as fast as SparseProp: in every cell at least, and over all cells."""


def tasks(channels: int, sparsity: float) -> list[Task]:
    """Ours, SparseProp's in either way, and the dense layer, of the same weights on the same data."""
    side = SHAPES[channels]
    mask = torch.rand(channels, channels, 3, 3) >= sparsity
    weight, bias = torch.randn(mask.shape) / (9 * channels) ** 0.5 * mask, torch.zeros(channels)
    index = Index.of(mask.flatten().nonzero().squeeze(1), (channels, 9 * channels))
    x, grad = (torch.randn(BATCH, channels, side, side) for _ in range(2))
    ours = images.lanes(x).clone(), weight[mask], bias.clone()
    dense = x.clone(), weight.clone(), bias.clone()
    made = sparse_conv2d(*ours, index, HOW)

    def theirs(over: bool) -> Task:
        layer = SparseConv2d(weight, nn.Parameter(bias.clone()), padding=1, vectorizing_over_on=over)
        inputs = x.clone(), layer.W_val, layer.bias
        torch.testing.assert_close(layer(x).detach(), made, rtol=1e-4, atol=1e-4)
        return both_ways(inputs, lambda: layer(inputs[0]), grad)

    return [
        both_ways(ours, lambda: sparse_conv2d(*ours, index, HOW), images.lanes(grad)),
        theirs(False),
        theirs(True),
        both_ways(dense, lambda: conv2d(*dense, padding=1), grad),
    ]


def compare(channels: int, sparsity: float) -> Cell:
    ours, *theirs, dense = in_turn(tasks(channels, sparsity), rounds=7)
    name = f"3x3, {channels} channels at {SHAPES[channels]}, batch {BATCH}, {sparsity:.0%}"
    return Cell(name, ours, min(theirs, key=statistics.median), 1 / LEAST, dense)


if __name__ == "__main__":
    keep_memory()
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        cells = [compare(channels, sparsity) for channels in SHAPES for sparsity in EACH]
        report("sparseprop_conv", [*cells, Overall([c.name for c in cells], [1 / c.ratio for c in cells], MEDIAN)])
