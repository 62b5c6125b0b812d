"""Law 3: the model stays the plain one: its state_dict, its copies, and what finalize leaves."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from zoo import OPTIMIZERS, STEPS, batch, plain, sparse, tiny_model, train

import regrow
from regrow.sparsifier import Sparsifier

Trained = tuple[nn.Module, Optimizer, Sparsifier]


@pytest.fixture
def trained() -> Trained:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer)
    train(model, optimizer, range(1, 8))
    return model, optimizer, sparsifier


def zeros_are_exact(model: nn.Module, topology: regrow.Topology) -> bool:
    state = model.state_dict()
    return all(bool((state[name][~topology[name]] == 0).all()) for name in topology)


def test_the_state_dict_is_the_plain_models(trained: Trained) -> None:
    model, _, sparsifier = trained
    state, dense = model.state_dict(), tiny_model().state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in dense.items()}
    assert zeros_are_exact(model, sparsifier.topology)
    again = tiny_model(seed=5)
    again.load_state_dict(state)
    assert zeros_are_exact(again, sparsifier.topology)
    found = regrow.Topology.of(again.state_dict(), sparsifier.topology)
    assert (found - sparsifier.topology).nnz == 0  # less what has just grown and is still zero


def test_load_state_dict_takes_it_back(trained: Trained) -> None:
    model, optimizer, sparsifier = trained
    saved = copy.deepcopy(model.state_dict())
    plain(model, optimizer, 8)
    model.load_state_dict(saved)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in saved.items())
    plain(model, optimizer, 8)
    assert zeros_are_exact(model, sparsifier.topology)


@pytest.mark.parametrize("method", regrow.METHODS)
def test_finalize_leaves_a_plain_model_with_exact_zeros(method: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    train(model, optimizer, range(1, STEPS + 1))
    outputs = model.eval()(batch(0)[0])
    left = sparsifier.finalize()
    assert left is model
    assert zeros_are_exact(model, sparsifier.topology)
    assert torch.equal(left(batch(0)[0]), outputs)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())
    topology, step = sparsifier.topology, sparsifier.step
    train(model.train(), optimizer, range(20, 24))  # dense training of a plain model
    assert (sparsifier.topology, sparsifier.step) == (topology, step)
    assert not zeros_are_exact(model, topology)
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    sparsifier.finalize()  # once more does no harm
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


def test_a_finalized_model_can_become_sparse_again(trained: Trained) -> None:
    model, optimizer, sparsifier = trained
    sparsifier.finalize()
    found = regrow.Topology.of(model.state_dict(), sparsifier.topology)
    again = sparse(model, optimizer, topology=found, density=None)
    assert again.topology == found
    train(model, optimizer, range(20, 25))
    assert zeros_are_exact(model, again.topology)


def test_a_frozen_copy_stays_while_the_model_moves_on(
    trained: Trained,
) -> None:
    model, optimizer, sparsifier = trained
    copied, topology = sparsifier.frozen_copy(), sparsifier.topology
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, optimizer, range(8, 13))
    assert all(torch.equal(copied.state_dict()[k], v) for k, v in before.items())
    assert sparsifier.topology != topology
    assert zeros_are_exact(copied, topology)
    assert not any(p.requires_grad for p in copied.parameters())


def test_deepcopy_and_pickle_carry_weights_but_no_hooks(
    trained: Trained,
) -> None:
    model, _, _ = trained
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert all(torch.equal(copied.state_dict()[k], v) for k, v in model.state_dict().items())
        assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in copied.parameters())


def test_an_average_of_weights_is_sparse_where_all_were(
    trained: Trained,
) -> None:
    """EMA over a run: its zeros are what has never been active since it began."""
    model, optimizer, sparsifier = trained
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    seen = sparsifier.topology
    ema.update_parameters(model)
    for step in range(8, 13):
        plain(model, optimizer, step)
        ema.update_parameters(model)
        seen = seen | sparsifier.topology
    assert zeros_are_exact(ema.module, seen)
