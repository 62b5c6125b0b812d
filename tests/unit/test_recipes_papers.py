"""The shipped recipes hold the papers' settings: optimizer, batch, and the learning rate of every epoch.

Sup-tickets: Yin et al. 2022, arXiv:2205.15322, appendix E. FreeTickets (Liu et al. 2022, arXiv:2106.14568) and ToST
(Jaiswal et al. 2022, arXiv:2206.12755): by their code.
"""

from __future__ import annotations

import pytest

from regrow.recipe.build import method_of
from regrow.recipe.load import load
from regrow.recipe.optim import factor_of, plan_of
from regrow.recipe.schema import SGD
from regrow.tickets.plan import learning_rate
from regrow.tweaks import LabelSmoothing, RescaledInit

STEPS = 100  # per epoch
CIFAR = ("cifar10", "cifar100")
SUP = [f"sup_tickets/{data}-{net}-rigl" for data in CIFAR for net in ("vgg16", "resnet50", "wrn28-10")]
Rates = dict[int, float]  # from this epoch on

EDST: Rates = {0: 0.1, 150: 0.01, 200: 0.001, 250: 0.01, 300: 0.001, 350: 0.01, 400: 0.001}
IMAGENET_EDST: Rates = {5: 0.1} | {
    epoch: rate
    for start in (30, 100, 170, 240)
    for epoch, rate in ((start, 0.01), (start + 30, 0.001), (start + 60, 0.0001))
}
WIDE: dict[str, tuple[float, int, Rates, int]] = {  # weight decay, steps between updates, rates, epochs
    **{f"freetickets/{data}-wrn28-10-edst": (5e-4, 1000, EDST, 450) for data in CIFAR},
    **{f"freetickets/{data}-wrn28-10-dst": (5e-4, 1000, {0: 0.1, 125: 0.01, 187: 0.001}, 250) for data in CIFAR},
    "freetickets/imagenet-resnet50-edst": (1e-4, 4000, IMAGENET_EDST, 310),
    **dict.fromkeys(SUP, (5e-4, 1000, {0: 0.1, 113: 0.01, 169: 0.001}, 226)),
    "sup_tickets/imagenet-resnet50-rigl": (1e-4, 4000, {5: 0.1, 30: 0.01, 60: 0.001, 85: 0.0001}, 92),
    "tost/cifar10-resnet18-snip": (2e-4, 0, {0: 0.1, 90: 0.01, 135: 0.001}, 182),
}


@pytest.mark.parametrize("name", WIDE)
def test_optimizer_and_rates(name: str) -> None:
    recipe = load(name)
    decay, interval, rates, epochs = WIDE[name]
    assert isinstance(recipe.optimizer, SGD)
    assert recipe.optimizer.model_dump(exclude={"name", "no_decay"}) == {
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": decay,
    }
    assert (recipe.batch_size, recipe.data.validation) == (128, 0.01 if "imagenet" in name else 0.1)
    assert recipe.method
    every = method_of(recipe.method).every
    assert (every.interval if every else 0) == interval
    multiple = learning_rate(plan_of(recipe, STEPS)) if recipe.plan else factor_of(recipe, STEPS)
    rate = {epoch: [0.1 * multiple(epoch * STEPS), 0.1 * multiple((epoch + 1) * STEPS - 1)] for epoch in range(epochs)}
    for epoch in range(min(rates), epochs):
        expected = rates[max(start for start in rates if start <= epoch)]
        assert rate[epoch] == pytest.approx([expected, expected]), epoch


@pytest.mark.parametrize("name", [*SUP, "sup_tickets/imagenet-resnet50-rigl"])
def test_cycles(name: str) -> None:
    """Low to high and back within each cycle, by steps; half of the weights replaced at its start."""
    recipe = load(name)
    low, high, length, count = (1e-4, 5e-4, 2, 4) if "imagenet" in name else (1e-3, 5e-3, 8, 3)
    train, *cycles = plan = plan_of(recipe, STEPS)
    assert [(phase.steps, phase.explore, phase.evolve) for phase in cycles] == [(length * STEPS, 0.5, False)] * count
    rate, half = learning_rate(plan), length * STEPS // 2
    for cycle in range(count):
        start = train.steps + cycle * length * STEPS
        assert [0.1 * rate(start + half), 0.1 * rate(start)] == pytest.approx([high, low])
        assert 0.1 * rate(start + half // 2) == pytest.approx((low + high) / 2)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        *((f"freetickets/{data}-wrn28-10-{plan}", 0.5, 0.5) for data in CIFAR for plan in ("edst", "dst")),
        *((name, 0.5, 0.5) for name in SUP),
        ("freetickets/imagenet-resnet50-edst", 0.5, 0.005),
        ("sup_tickets/imagenet-resnet50-rigl", 0.5, 0.005),
    ],
)
def test_drop_fractions(name: str, first: float, last: float) -> None:
    """Constant on CIFAR, a cosine on ImageNet, for EDST from one escape to the next."""
    recipe = load(name)
    plan = plan_of(recipe, STEPS)
    assert recipe.method
    own = getattr(method_of(recipe.method), "fraction")  # noqa: B009
    stretch = [phase for phase in plan if phase.evolve][: 2 if "edst" in name else 1]
    falls = [phase.fraction or own for phase in stretch]
    assert [falls[0](0.0), falls[-1](1.0)] == pytest.approx([first, last])
    if "edst" in name:
        assert [phase.explore for phase in plan] == [0.0, 0.0, *[0.8] * (len(plan) - 2)]


def test_tost() -> None:
    recipe = load("tost/cifar10-resnet18-snip-tost")
    names = [tweak.name for tweak in recipe.tweaks]
    assert names == [
        "soft-activation",
        "ghost-skip",
        "rescaled-init",
        "label-smoothing",
    ]
    assert not any(tweak.options for tweak in recipe.tweaks)
    init, smooth = RescaledInit(), LabelSmoothing()
    assert (init.step, init.lr, init.iterations, init.eta, init.gamma) == ("sgd", 1e-2, 180, 0.1, 1.0)
    assert (init.normalise, init.floor, init.clip) == (True, 0.01, 1.0)
    assert (smooth.start, smooth.stop, smooth.over) == (0.1, 0.1, "others")
    assert recipe.exclude == ("fc",)
