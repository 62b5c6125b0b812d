"""Checkpoints hold what exists: weights and optimizer state of masked models, bit for bit; vectors of sparse ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from backends import BACKENDS, start
from small_run import Images
from torch import Tensor, nn
from zoo import OPTIMIZERS, plain, sparse, tiny_model

from regrow.tickets.compact import Survivors, compact, expand, survivors
from regrow.train import checkpoint
from regrow.train.job import Job
from regrow.train.state import content_of


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_weights_and_optimizer_state_bit_for_bit(kind: str, channels_last: bool) -> None:
    model: nn.Module = tiny_model()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, "set")
    for step in range(1, 8):
        plain(model, optimizer, step)
    alive = survivors(model, sparsifier.topology)
    assert alive.keys() == {"0.weight", "4.weight", "6.weight"}
    for name, exists in alive.items():
        parameter = model.get_parameter(name)
        for held in (parameter.detach(), *optimizer.state.get(parameter, {}).values()):
            packed = compact(held, exists)
            if isinstance(held, Tensor) and held.shape == parameter.shape:
                assert packed["values"].numel() == exists.at.numel()
                again = expand(packed, exists)
                assert bits(again) == bits(held)
                assert again.stride() == held.stride()
            else:
                assert packed is held
                assert expand(packed, exists) is held


def test_what_is_not_the_same_elsewhere_stays_dense() -> None:
    alive = Survivors(torch.tensor([0, 5]), (2, 3))
    different = (torch.arange(6.0).view(2, 3), torch.full((2, 3), torch.nan))
    for held in (*different, torch.zeros(6), torch.tensor(3.0), 4, None):
        assert compact(held, alive) is held
    fill = torch.full((2, 3), 0.1)
    assert compact(fill, alive)["values"].numel() == 2
    assert torch.equal(expand(compact(fill, alive), alive), fill)
    everything = Survivors(torch.arange(6), (2, 3))
    assert compact(fill, everything) is fill


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["sgd-momentum", "adamw"])
def test_a_checkpoint_holds_no_tensor_as_large_as_the_layer(kind: str, backend: str) -> None:
    model, optimizer, sparsifier = start(backend, kind=kind)
    for step in range(1, 8):
        plain(model, optimizer, step)
    job = Job(model, optimizer, Images(), nn.CrossEntropyLoss(), 2, 16, 3, sparsifier)
    content = content_of(job, 7)
    checkpoint.digest(content)  # it can be stored
    largest = max(map(sparsifier.topology.numel_of, sparsifier.topology))
    assert max(tensor.numel() for tensor in tensors(content["optimizer"]["state"])) < largest
    assert max(tensor.numel() for tensor in tensors(content["sparsifier"])) < largest
    for name in sparsifier.topology:
        held = content["model"][name]
        assert (held if backend == "sparse" else held["values"]).shape == (sparsifier.topology.nnz_of(name),)


def tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict | list | tuple):
        for entry in content.values() if isinstance(content, dict) else content:
            yield from tensors(entry)
