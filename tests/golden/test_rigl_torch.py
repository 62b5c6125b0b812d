"""RigL as rigl-torch does it: rounded down, in place of a step, the first layer dense."""

from __future__ import annotations

import pytest
import torch
from replay import Golden, Weights, still_sgd, topology_of

import regrow
from regrow.core.distributions import Uniform
from regrow.core.schedules import Every
from regrow.methods import build
from regrow.methods.drop_grow import DropGrow

GOLDEN = Golden("rigl_torch_update")
TOTAL, EVERY = 1000, Every(50)
UPDATES = GOLDEN["steps"].tolist()


def method() -> DropGrow:
    made = build("rigl", fraction=0.3, every=EVERY)
    assert isinstance(made, DropGrow)
    return made


def test_uniform_with_a_dense_first_layer() -> None:
    shapes = {f"l{i}": tuple(k for k in shape if k) for i, shape in enumerate(GOLDEN["shapes"].tolist())}
    density = Uniform(dense_first=True)(shapes, 0.2)
    assert list(density.values()) == pytest.approx((1 - GOLDEN["S"]).tolist(), abs=1e-12)


def test_fraction() -> None:
    curve = [(int(step), fraction) for step, fraction in GOLDEN["cosine_curve"].tolist()]
    curve += [(step, float(GOLDEN[f"step{step}/drop_fraction"])) for step in UPDATES]
    for step, fraction in curve:
        assert method().fraction(EVERY.progress(step, TOTAL)) == pytest.approx(fraction, abs=1e-12)


def test_update_steps() -> None:
    """Ours has one more, at the very end, where the fraction is 0 and nothing is replaced."""
    due = [step for step in range(TOTAL + 100) if EVERY.due(step, TOTAL)]
    assert due == [*GOLDEN["update_steps"].tolist(), TOTAL]
    assert method().fraction(EVERY.progress(TOTAL, TOTAL)) == 0.0


@pytest.mark.parametrize("step", UPDATES)
def test_update(step: int) -> None:
    model = Weights(GOLDEN.layers("in/{}/weight"))
    optimizer = still_sgd(model, GOLDEN.layers("in/{}/momentum"))
    masks = topology_of(GOLDEN.layers("in/{}/mask"))
    sparsifier = regrow.sparsify(model, optimizer, method=method(), topology=masks, total_steps=TOTAL)
    sparsifier.load_state_dict({**sparsifier.state_dict(), "step": step - 1})
    for group in optimizer.param_groups:
        group.update(lr=0.1, momentum=0.9, dampening=0.0)  # it must not matter: the update replaces the step
    model.backward(GOLDEN.layers("in/{}/dense_grad"))
    optimizer.step()
    assert sparsifier.last_update is not None
    assert sparsifier.last_update["step"] == step
    assert sparsifier.topology == topology_of(GOLDEN.layers(f"step{step}/{{}}/mask"))
    for name, weight in GOLDEN.layers(f"step{step}/{{}}/weight").items():
        parameter = model.get_parameter(f"{name}.weight")
        assert torch.equal(parameter, weight)
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], GOLDEN[f"step{step}/{name}/momentum"])
