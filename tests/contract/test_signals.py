"""Law 7: a method gets the signals it needs, true to an independent dense computation, and only when it needs them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import (
    EVERY,
    GROWING,
    OPTIMIZERS,
    PRUNING,
    STEPS,
    VARIANTS,
    accumulated,
    batch,
    loss_at,
    plain,
    scaled,
    sparse,
    tiny_model,
    train,
)

import regrow
from regrow.core.site import Site
from regrow.sparsifier import Sparsifier


def stashes(sparsifier: Sparsifier) -> list[Tensor | None]:
    return [weight.dense for weight in sparsifier.backend._weights]  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", regrow.METHODS)
def test_a_dense_gradient_exists_on_update_steps_only(method: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    needs = sparsifier.method.needs
    for step in range(1, STEPS + 1):
        loss_at(model, step).backward()
        every = sparsifier.method.every
        due = every is not None and every.due(step, STEPS)
        wanted = "dense_moment" in needs or ("dense_grad" in needs and due)
        assert all((stash is not None) == wanted for stash in stashes(sparsifier)), step
        optimizer.step()
        optimizer.zero_grad()
        assert not any(stash is not None for stash in stashes(sparsifier))
    assert bool(sparsifier.backend.buffers()) == ("dense_moment" in needs)


def dense_gradients(model: nn.Module, steps: list[int]) -> dict[str, Tensor]:
    """Of the mean loss over these batches, by a copy that no mask touches."""
    twin = copy.deepcopy(model)
    (sum(loss_at(twin, step) for step in steps) / len(steps)).backward()  # type: ignore[union-attr]
    return {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}


def spied(sparsifier: Sparsifier) -> list[Mapping[str, Site]]:
    """The sites that every update saw."""
    seen: list[Mapping[str, Site]] = []
    update = type(sparsifier.method).update

    def spy(self: Any, sites: Mapping[str, Site], *args: Any) -> Any:
        seen.append(sites)
        return update(self, sites, *args)

    method = sparsifier.method
    sparsifier.method = copy.copy(method)
    object.__setattr__(sparsifier.method, "update", lambda *args: spy(method, *args))
    return seen


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "autocast"])
@pytest.mark.parametrize("method", ["rigl", "rigl-itop"])
def test_candidates_are_those_of_the_true_dense_gradient(method: str, variant: str) -> None:
    model = tiny_model().double()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    seen, step_of = spied(sparsifier), VARIANTS[variant]()
    torch.set_default_dtype(torch.float64)
    try:
        for step in range(1, STEPS + 1):
            model_before, topology = copy.deepcopy(model), sparsifier.topology
            updates = len(seen)
            step_of(model, optimizer, step)
            if len(seen) == updates:
                continue
            parts = [100 * step + part for part in range(3)] if "accumulate" in variant else [step]
            true = dense_gradients(model_before, parts)
            for name, site in seen[-1].items():
                flat, candidates = true[name].reshape(-1).abs(), site.candidates
                assert candidates is not None
                position, active = candidates.position.long(), topology[name].reshape(-1)
                inactive, k = flat.masked_fill(active, -1.0), int((~active[position]).count_nonzero())
                assert k < inactive.numel()
                if k == 0:  # RigL's last update: its cosine has reached 0
                    continue
                best = inactive.topk(k)
                assert torch.equal(position[~active[position]], best.indices.sort().values)
                dropped = position[active[position]]
                near = (flat - best.values[-1]).abs() <= 1e-9 * best.values[-1]
                assert bool((flat[dropped] >= best.values[-1]).logical_or(near[dropped]).all())
                assert torch.isin((active & (flat > best.values[-1]) & ~near).nonzero()[:, 0], dropped).all()
                scale = float(candidates.score.norm() / flat[position].norm())
                torch.testing.assert_close(candidates.score, flat[position] * scale, rtol=1e-9, atol=1e-12)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(seen) >= 3


@pytest.mark.parametrize("kind", ["sgd-momentum", "sgd-fused", "adam", "adam-fused"])
@pytest.mark.parametrize("variant", ["plain", "clip", "accumulate", "accumulate-zeroed", "scaler", "scaler-clip"])
def test_dense_momentum_matches_an_independent_computation(variant: str, kind: str) -> None:
    """moment <- .9 moment + g, g unscaled and clipped as the optimizer saw it."""
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    sparsifier = sparse(model, optimizer, "momentum-itop")
    step_of, expected = VARIANTS[variant](), dict.fromkeys(sparsifier.topology, torch.zeros(()))
    for step in range(1, STEPS + 1):
        parts = [100 * step + part for part in range(3)] if "accumulate" in variant else [step]
        true = dense_gradients(model, parts)
        if "clip" in variant:
            inside = {n: g * sparsifier.topology[n] if n in sparsifier.topology else g for n, g in true.items()}
            total = torch.stack([g.norm() for g in inside.values()]).norm()
            true = {n: g * min(1.0, float(0.1 / (total + 1e-6))) for n, g in true.items()}
        expected = {name: 0.9 * moment + true[name] for name, moment in expected.items()}
        step_of(model, optimizer, step)
        for name, buffer in sparsifier.backend.buffers().items():
            torch.testing.assert_close(buffer, expected[name], rtol=1e-3, atol=1e-6)


def test_dense_momentum_is_sgds_own_where_weights_have_always_been() -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "snfs")
    always = sparsifier.topology
    for step in range(1, STEPS + 1):
        plain(model, optimizer, step)
        always = always & sparsifier.topology
    for name, parameter in model.named_parameters():
        if name in always:
            own, kept = optimizer.state[parameter]["momentum_buffer"], sparsifier.backend.buffers()[name]
            torch.testing.assert_close(own[always[name]], kept[always[name]], rtol=1e-4, atol=1e-7)


def test_the_loss_scale_changes_no_decision() -> None:
    ends = []
    for step_of in (plain, scaled(), scaled(set_to_none=False)):
        model = tiny_model()
        optimizer = OPTIMIZERS["sgd-fused"](model.parameters())
        sparsifier = sparse(model, optimizer, "rigl-itop")
        train(model, optimizer, range(1, STEPS + 1), step_of)
        ends.append(sparsifier.topology)
    # the inf step moves BatchNorm's statistics, not the weights: powers of two leave every decision as it was
    assert ends[0] == ends[1] == ends[2]


def test_micro_batches_decide_like_their_whole() -> None:
    """In float64 and without BatchNorm, three micro-batches are one batch."""

    def whole(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        data = [batch(100 * step + part) for part in range(3)]
        inputs, targets = (torch.cat(tensors) for tensors in zip(*data, strict=True))
        nn.functional.cross_entropy(model(inputs.double()), targets).backward()
        optimizer.step()
        optimizer.zero_grad()

    ends = []
    torch.set_default_dtype(torch.float64)
    try:
        for step_of in (whole, accumulated(True), accumulated(False)):
            model = tiny_model()
            model[1] = nn.Identity()
            optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
            sparsifier = sparse(model, optimizer, "rigl-itop")
            train(model, optimizer, range(1, STEPS + 1), step_of)
            ends.append(sparsifier.topology)
    finally:
        torch.set_default_dtype(torch.float32)
    assert ends[0] == ends[1] == ends[2]


def test_growth_by_gradient_never_ranks_by_momentum() -> None:
    """SNFS's redistribution reads momentum; `grow="gradient"` must rank by the gradient all the same."""
    model = tiny_model()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "snfs", grow="gradient")
    seen = spied(sparsifier)
    train(model, optimizer, range(1, EVERY))
    true = dense_gradients(model, [EVERY])
    plain(model, optimizer, EVERY)
    for name, site in seen[0].items():
        assert site.candidates is not None
        torch.testing.assert_close(site.candidates.score, true[name].reshape(-1)[site.candidates.position].abs())
        assert site.moment is not None


class Branches(nn.Module):
    """Two layers of which a forward pass uses one or both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(12, 8), nn.Linear(12, 8)
        self.used = ("left",)

    def forward(self, inputs: Tensor) -> Tensor:
        return sum(getattr(self, name)(inputs) for name in self.used)  # type: ignore[return-value]


@pytest.mark.parametrize("method", [m for m in GROWING if m not in PRUNING])
def test_a_layer_without_a_backward_pass(method: str) -> None:
    """Growth by a dense signal leaves it alone until one reaches it; budgets hold either way."""
    model = Branches()
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, method)
    first = sparsifier.topology

    def steps(at: range) -> None:
        for step in at:
            model(torch.randn(4, 12, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    steps(range(1, 7))
    unmoved = torch.equal(sparsifier.topology.index("right.weight"), first.index("right.weight"))
    assert unmoved == bool(sparsifier.method.needs & {"dense_grad", "dense_moment"})
    model.used = ("left", "right")
    sparsifier.explore(0.5)
    steps(range(7, STEPS + 1))
    assert sparsifier.topology.nnz == first.nnz
    assert not torch.equal(sparsifier.topology.index("right.weight"), first.index("right.weight"))


def test_a_gradient_of_nothing_but_zeros_moves_nothing() -> None:
    """Where there is nothing to rank by, ties by position would herd the weights into the first rows."""
    model = Branches()
    model.used = ("left", "right")
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(model, optimizer, "rigl-itop")
    first = sparsifier.topology
    for step in range(1, STEPS + 1):
        inputs = torch.randn(4, 12, generator=torch.Generator().manual_seed(step))
        (model.left(inputs).square().mean() + 0.0 * model.right(inputs).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(sparsifier.topology.index("right.weight"), first.index("right.weight"))
    assert not torch.equal(sparsifier.topology.index("left.weight"), first.index("left.weight"))
