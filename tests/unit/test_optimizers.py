from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn, optim

from regrow import RegrowError
from regrow.execution.optimizers import check_moment, decay_of, first_moment, fresh_state, group_of


def of(kind: type[optim.Optimizer], **settings: Any) -> tuple[optim.Optimizer, nn.Parameter]:
    parameter = nn.Parameter(torch.ones(2, 3))
    return kind([parameter], **settings), parameter


@pytest.mark.parametrize(
    ("kind", "settings", "fresh"),
    [
        (optim.SGD, {"lr": 0.1}, {}),
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, {"momentum_buffer": 0.0}),
        (optim.Adam, {"amsgrad": True}, {"exp_avg": 0.0, "exp_avg_sq": 0.0, "max_exp_avg_sq": 0.0}),
        (optim.AdamW, {"fused": True, "lr": torch.tensor(0.1)}, {"exp_avg": 0.0, "exp_avg_sq": 0.0}),
        (optim.Adam, {"capturable": True, "foreach": True}, {"exp_avg": 0.0, "exp_avg_sq": 0.0}),
        (optim.Adagrad, {"initial_accumulator_value": 0.5}, {"sum": 0.5}),
        (optim.Rprop, {"lr": 0.25}, {"prev": 0.0, "step_size": 0.25}),
    ],
)
def test_fresh_state_of_torchs_own(
    kind: type[optim.Optimizer], settings: dict[str, Any], fresh: dict[str, float]
) -> None:
    optimizer, _ = of(kind, **settings)
    assert fresh_state(optimizer, optimizer.param_groups[0]) == fresh


class Foreign(optim.Optimizer):
    """Somebody's optimizer, with a state of its own and one line that decides over its fate."""

    def __init__(self, params: Any, lr: float = 0.1, rule: str = "sign") -> None:
        super().__init__(params, {"lr": lr, "rule": rule})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p].setdefault("velocity", torch.full_like(p, 7.0))
                if group["rule"] == "sign":
                    p.sub_(group["lr"] * p.grad.sign())
                elif group["rule"] == "noise":
                    p.add_(0.1)
                elif group["rule"] == "rows":
                    self.state[p]["row"] = p.grad.sum(1)
                else:
                    raise RuntimeError("a graph is needed")


def test_foreign_optimizers_are_judged_by_trial() -> None:
    optimizer, _ = of(Foreign)
    assert fresh_state(optimizer, optimizer.param_groups[0]) == {"velocity": 7.0}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("noise", "Foreign moves weights that get no gradient"),
        ("rows", r"Foreign keeps 'row' of shape \(4,\) across weights"),
        ("other", r"Foreign cannot train masked weights \(a graph is needed\)"),
    ],
)
def test_refused_by_trial(rule: str, message: str) -> None:
    optimizer, _ = of(Foreign, rule=rule)
    with pytest.raises(RegrowError, match=f"{message}.*use an element-wise optimizer"):
        fresh_state(optimizer, optimizer.param_groups[0])


def test_the_trial_leaves_the_optimizer_alone() -> None:
    optimizer, parameter = of(optim.Adam, lr=0.3)
    fresh_state(optimizer, optimizer.param_groups[0])
    assert not optimizer.state
    assert (parameter == 1).all()
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_first_moments() -> None:
    for kind, key in ((optim.Adam, "exp_avg"), (optim.NAdam, "exp_avg")):
        optimizer, parameter = of(kind)
        assert first_moment(optimizer, parameter) is None
        parameter.grad = torch.ones(2, 3)
        optimizer.step()
        assert first_moment(optimizer, parameter) is optimizer.state[parameter][key]
        check_moment(optimizer, {key: 0.0})
    with pytest.raises(RegrowError, match="SGD keeps no momentum"):
        check_moment(of(optim.SGD, lr=0.1)[0], {})


def test_groups_and_decay() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([{"params": [first]}, {"params": [second], "momentum": 0.5}], lr=0.1, momentum=0.8)
    assert group_of(optimizer, second) is optimizer.param_groups[1]
    assert group_of(optimizer, nn.Parameter(torch.ones(2))) is None
    assert [decay_of(group) for group in optimizer.param_groups] == [0.8, 0.5]
    assert decay_of(of(optim.Adam, betas=(0.7, 0.99))[0].param_groups[0]) == 0.7
    assert decay_of({}) == 0.9
