"""The tiny problem on either backend: convolution and Linear layers sparse, and every tensor of a site seen dense."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from zoo import FRESH, OPTIMIZERS, sparse, tiny_model

from regrow.sparsifier import Sparsifier

Run = tuple[nn.Module, Optimizer, Sparsifier]
BACKENDS = ("masked", "sparse")


def start(backend: str, method: str = "rigl-itop", kind: str = "sgd-momentum", seed: int = 0, **changes: Any) -> Run:
    """The convolution and the two Linear layers become sparse, BatchNorm stays dense."""
    model = tiny_model(seed)
    options = changes.pop("options", {})
    optimizer = OPTIMIZERS[kind](model.parameters(), **options)
    return model, optimizer, sparse(model, optimizer, method, backend=backend, **changes)


def held(run: Run, name: str) -> dict[str, Tensor]:
    """A site's weight, gradient and optimizer state, shaped like the plain weight; FRESH or 0 where nothing exists."""
    model, optimizer, sparsifier = run
    parameter = model.get_parameter(name)
    found = {"weight": parameter.detach()} | ({} if parameter.grad is None else {"grad": parameter.grad})
    state = optimizer.state.get(parameter, {})
    found |= {k: v for k, v in state.items() if isinstance(v, Tensor) and v.shape == parameter.shape}
    return {key: dense(sparsifier, name, value, fresh(optimizer, key)) for key, value in found.items()}


def dense(sparsifier: Sparsifier, name: str, value: Tensor, elsewhere: float = 0.0) -> Tensor:
    topology = sparsifier.topology
    if value.shape == topology.shape(name):
        return value.clone()
    flat = value.new_full((topology.numel_of(name),), elsewhere)
    return flat.index_copy_(0, topology.index(name).long(), value).view(topology.shape(name))


def fresh(optimizer: Optimizer, key: str) -> float:
    kinds = {"Adagrad": "adagrad", "Adamax": "adamax", "Rprop": "rprop"}
    return FRESH.get((kinds.get(type(optimizer).__name__, ""), key), 0.0)


def bits(run: Run) -> list[Any]:
    """All that a resumed run must share with the one that went on."""
    model, optimizer, sparsifier = run
    tensors = [*model.state_dict().values(), *sparsifier.backend.buffers().values()]
    tensors += [
        v for p in model.parameters() for _, v in sorted(optimizer.state[p].items()) if isinstance(v, torch.Tensor)
    ]
    plain = [sparsifier.step, sparsifier.topology.digest(), sparsifier.explored.digest()]
    return [*plain, *(tensor.numpy().tobytes() for tensor in tensors)]
