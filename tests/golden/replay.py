"""The committed golden numbers, and what it takes to put their inputs through the real sparsifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from regrow.core.topology import Topology

DATA = Path(__file__).parent / "data"


class Golden:
    """One file: arrays as tensors. A missing file is an error, never a skip."""

    def __init__(self, name: str) -> None:
        with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
            self.arrays = {key: file[key] for key in file.files if key != "meta"}

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    def layers(self, pattern: str) -> dict[str, Tensor]:
        """`pattern` with {} for the layer -> {"l0": ..., "l1": ...}."""
        names = (f"l{i}" for i in range(100) if pattern.format(f"l{i}") in self.arrays)
        return {name: self[pattern.format(name)] for name in names}


class Weights(nn.Module):
    """Layers of the given weights, in order; they are never called, their gradients are given."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            outputs, inputs, *kernel = weight.shape
            layer = nn.Conv2d(inputs, outputs, kernel[0], bias=False) if kernel else nn.Linear(inputs, outputs, False)
            layer.weight.data = weight.clone()
            self.add_module(name, layer)

    def put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            self.get_parameter(f"{name}.weight").data.copy_(weight)

    def backward(self, grads: Mapping[str, Tensor]) -> None:
        """Leaves exactly these gradients: d(sum w g)/dw = g."""
        loss = torch.stack([(self.get_parameter(f"{name}.weight") * grad).sum() for name, grad in grads.items()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]


def topology_of(masks: Mapping[str, Tensor]) -> Topology:
    return Topology.from_masks({f"{name}.weight": mask for name, mask in masks.items()})


def still_sgd(model: Weights, momentum: Mapping[str, Tensor] | None = None) -> torch.optim.SGD:
    """SGD whose steps change neither weights (lr 0) nor momentum (kept whole, gradients dampened away)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=1.0, dampening=1.0)
    for name, buffer in (momentum or {}).items():
        optimizer.state[model.get_parameter(f"{name}.weight")]["momentum_buffer"] = buffer.clone()
    return optimizer
