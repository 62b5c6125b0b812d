"""The learning rate of every step, and who decays."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from regrow.core.errors import RegrowError
from regrow.recipe.load import recipe_of
from regrow.recipe.optim import factor_of, optimizer_of
from regrow.recipe.schema import Recipe


def recipe(**changes: Any) -> Recipe:
    plain = {"name": "r", "data": "digits", "model": "mlp", "optimizer": "sgd", "epochs": 10, "batch_size": 8}
    return recipe_of(plain | changes, "r.yaml")


def drops(recipe: Recipe, steps_per_epoch: int) -> list[int]:
    """The steps at which the learning rate changes."""
    factor = factor_of(recipe, steps_per_epoch)
    total = recipe.total_epochs * steps_per_epoch
    return [step for step in range(1, total) if factor(step) != factor(step - 1)]


def test_milestones_in_fractions_and_in_epochs_agree() -> None:
    fractions = recipe(schedule={"name": "milestones", "at": [0.5, 0.75]})
    epochs = recipe(schedule={"name": "milestones", "at": [5, 8]})
    assert drops(fractions, 7) == [35, 53]
    assert drops(epochs, 7) == [35, 56]
    assert factor_of(epochs, 7)(69) == pytest.approx(0.01)


@pytest.mark.parametrize("multiplier", [2, 5, 0.5])
def test_the_multiplier_scales_the_run_and_its_milestones_but_not_the_warmup(multiplier: float) -> None:
    long = recipe(schedule={"name": "milestones", "at": [4, 8], "warmup": 1}, multiplier=multiplier)
    assert long.total_epochs == 10 * multiplier
    assert drops(long, 10) == [*range(1, 10), int(40 * multiplier), int(80 * multiplier)]


def test_warmup_climbs_and_cosine_ends_at_its_floor() -> None:
    factor = factor_of(recipe(schedule={"name": "cosine", "warmup": 2, "floor": 0.1}), 5)
    assert [factor(step) for step in range(11)] == pytest.approx([*[k / 10 for k in range(1, 11)], 1.0])
    assert factor(50) == pytest.approx(0.1)
    assert factor_of(recipe(), 5)(49) == 1.0


def test_parameters_that_match_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    spec = recipe(optimizer={"name": "adamw", "lr": 0.1, "weight_decay": 0.5, "no_decay": ["1.*", "*bias"]}).optimizer
    optimizer = optimizer_of(spec, model)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.5, 0.0, 0.0, 0.0]
    assert all(group["lr"] == 0.1 for group in optimizer.param_groups)
    spec = recipe(optimizer={"name": "sgd", "no_decay": ["*bn*"]}).optimizer
    with pytest.raises(RegrowError, match=r"matches no parameter. Parameters: 0.weight"):
        optimizer_of(spec, model)
