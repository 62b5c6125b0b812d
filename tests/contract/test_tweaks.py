"""Every tweak on every backend: it lives for its share of the run, composes, resumes bit for bit, leaves no trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from backends import BACKENDS, Run, bits, start
from torch import Tensor, nn
from zoo import STEPS, batch, plain

import regrow
from regrow import RegrowError
from regrow.execution.sparse_linear import SparseLinear
from regrow.tickets import Ticket
from regrow.tickets.plan import edst
from regrow.tweaks import TWEAKS, GhostSkip, LabelSmoothing, RescaledInit, SoftActivation, Tweak, is_ghost

HERE: dict[str, Any] = {"batches": [batch(50 + at) for at in range(5)]}
STACKS: dict[str, list[Tweak]] = {
    "soft-activation": [SoftActivation()],
    "ghost-skip": [GhostSkip()],
    "rescaled-init": [RescaledInit(iterations=4)],
    "label-smoothing": [LabelSmoothing(stop=0.0, until=0.5)],
}
ALL = [tweak for stack in STACKS.values() for tweak in stack]
STACKS["all"] = ALL


def test_every_tweak_is_here() -> None:
    assert {*STACKS} == {*TWEAKS, "all"}


def train(run: Run, steps: range) -> None:
    model, optimizer, sparsifier = run
    loss = sparsifier.loss(nn.functional.cross_entropy)
    for step in steps:
        inputs, targets = batch(step)
        loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def begun(backend: str, stack: str, method: str = "rigl-itop", **changes: Any) -> Run:
    return start(backend, method, tweaks=STACKS[stack], **HERE | changes)


def anatomy(run: Run) -> list[object]:
    """What a tweak might leave behind."""
    model, optimizer, _ = run
    modules = [(name, type(module), sorted(vars(module))) for name, module in model.named_modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    groups = [len(group["params"]) for group in optimizer.param_groups]
    return [modules, hooks, groups, len(optimizer.state), [*model.state_dict()]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_gone_without_trace(stack: str, backend: str) -> None:
    plain, run = start(backend), begun(backend, stack)
    train(plain, range(1, STEPS + 1))
    train(run, range(1, STEPS + 1))
    assert anatomy(run) == anatomy(plain)
    twin = begun(backend, stack)[2].finalize()  # while they live
    twin.load_state_dict(run[0].state_dict())
    inputs, _ = batch(99)
    before = run[0].eval()(inputs)
    after = run[2].finalize()(inputs)
    assert [(n, type(m)) for n, m in twin.named_modules()] == [(n, type(m)) for n, m in run[0].named_modules()]
    assert torch.equal(after, twin.eval()(inputs))
    if backend == "masked":
        assert torch.equal(before, after)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", regrow.METHODS)
def test_with_every_method(method: str, backend: str) -> None:
    run = begun(backend, "all", method)
    model, _, sparsifier = run
    ghosts = [name for name in model.state_dict() if is_ghost(name)]
    assert ghosts
    assert not any(name in site for name in ghosts for site in sparsifier.topology)
    before = {name: value.clone() for name, value in model.state_dict().items() if is_ghost(name)}
    train(run, range(1, 4))
    moved = {name: value for name, value in model.state_dict().items() if is_ghost(name)}
    assert all(not torch.equal(moved[name], before[name]) for name in before)
    train(run, range(4, STEPS + 1))
    state = sparsifier.finalize().state_dict()
    for name, mask in sparsifier.topology.items():
        assert not state[name][~mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_share_their_ghosts(backend: str) -> None:
    def state(on: str) -> dict[str, Tensor]:
        return {name: value for name, value in begun(on, "ghost-skip")[0].state_dict().items() if is_ghost(name)}

    ours, theirs = state(backend), state("masked")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def content(run: Run) -> list[dict[str, Any]]:
    return [copy.deepcopy(part.state_dict()) for part in run]


def load(run: Run, states: list[dict[str, Any]], order: str = "som") -> None:
    for key in order:
        run["mos".index(key)].load_state_dict(copy.deepcopy(states["mos".index(key)]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_resumed_bit_for_bit_from_every_step(backend: str) -> None:
    run, states = begun(backend, "all"), []
    for step in range(1, STEPS + 1):
        states.append(content(run))
        train(run, range(step, step + 1))
    for step, state in enumerate(states):
        again = begun(backend, "all")
        load(again, state, order=("som", "mos", "smo")[step % 3])
        train(again, range(step + 1, STEPS + 1))
        assert bits(again) == bits(run), f"resumed at step {step}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_back_to_a_step_at_which_they_lived(backend: str) -> None:
    run = begun(backend, "all")
    train(run, range(1, 3))
    state = content(run)
    train(run, range(3, STEPS + 1))
    end = bits(run)
    load(run, state)
    train(run, range(3, STEPS + 1))
    assert bits(run) == end


def test_another_stack_is_another_run() -> None:
    state = begun("masked", "all")[2].state_dict()
    with pytest.raises(RegrowError, match=r"tweaks: saved .*ghost-skip"):
        begun("masked", "soft-activation")[2].load_state_dict(state)
    with pytest.raises(RegrowError, match=r"tweaks: saved .*, here None"):
        start("masked")[2].load_state_dict(state)


def test_the_plain_state_loads_while_ghosts_live() -> None:
    plain = start("masked")[0].state_dict()
    model = begun("masked", "all")[0]
    ghosts = {name: value.clone() for name, value in model.state_dict().items() if is_ghost(name)}
    model.load_state_dict(plain)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in (plain | ghosts).items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_carry_their_own_ghosts(backend: str) -> None:
    run = begun(backend, "all")
    copied = run[2].frozen_copy().eval()
    inputs, _ = batch(99)
    before = copied(inputs)
    torch.testing.assert_close(run[0].eval()(inputs), before)
    run[0].train()
    train(run, range(1, STEPS + 1))
    assert torch.equal(copied(inputs), before)


def test_a_plan_has_them_in_its_first_phase() -> None:
    plan = edst(6, [3], 2, escape=0.5)
    run = start("masked", tweaks=[GhostSkip(until=1.0)], plan=plan, total_steps=0)
    train(run, range(1, 6))
    with pytest.raises(RegrowError, match="ghost-skip still changes the model"):
        Ticket.of(run[0], run[2])
    train(run, range(6, 7))
    assert not any(map(is_ghost, run[0].state_dict()))
    assert not any(map(is_ghost, Ticket.of(run[0], run[2]).state_dict()))


def test_ghosts_join_the_group_of_their_weight() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    groups = [
        {"params": model[2].parameters(), "lr": 0.5},
        {"params": [*model[0].parameters(), *model[4].parameters()]},
    ]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="static", density=0.5, total_steps=4, tweaks=["ghost-skip"])
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    of = [[named[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    assert [name for name in of[0] if is_ghost(name)] == [
        f"2.ghost.{n}" for n in ("dense.weight", "norm.weight", "norm.bias")
    ]
    assert {name.split(".")[0] for name in of[1] if is_ghost(name)} == {"0"}
    assert "2 branches, alpha 1" in sparsifier.summary()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tweaks": ["ghost-skips"]}, "unknown tweak 'ghost-skips'; did you mean 'ghost-skip'"),
        ({"tweaks": ["ghost-skip", GhostSkip()]}, "there twice"),
        ({"tweaks": ["rescaled-init"]}, "no batches: give sparsify batches"),
        ({"tweaks": ["rescaled-init"], "batches": iter([batch(1)])}, "gone round several times"),
        ({"tweaks": [SoftActivation(include=("7",))]}, "'7' matches none of its 2 places"),
        ({"tweaks": [SoftActivation(exclude=("2", "5"))]}, "finds nothing to act on: .* not excluded"),
        ({"tweaks": [GhostSkip(exclude=("0", "4"))]}, "finds nothing to act on"),
        ({"tweaks": ["ghost-skip"], "method": "static", "total_steps": 0}, "needs total_steps"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    model = start("masked")[2].finalize()
    keys = [(name, type(module)) for name, module in model.named_modules()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RegrowError, match=message):
        regrow.sparsify(
            model, optimizer, **{"density": 0.5, "every": None, "total_steps": 5000, "topology": "uniform"} | changes
        )
    assert [(name, type(module)) for name, module in model.named_modules()] == keys


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [SoftActivation(exclude=("2", "5")), GhostSkip(exclude=("0", "4"))])
def test_what_is_refused_leaves_model_and_optimizer_as_they_were(wrong: Tweak, backend: str) -> None:
    """Also where the initialisation is re-scaled and the topology taken up before a later tweak is refused."""
    model, optimizer, sparsifier = start("masked", "rigl")
    plain(model, optimizer, 1)
    sparsifier.finalize()
    nn.init.normal_(model[0].weight)  # dense again
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    with pytest.raises(RegrowError, match="finds nothing to act on"):
        regrow.sparsify(
            model,
            optimizer,
            method="static",
            topology="magnitude",
            density=0.5,
            total_steps=9,
            backend=backend,
            tweaks=[RescaledInit(by="fan-in"), wrong],
        )
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), before, rtol=0.0, atol=0.0)


def test_a_loss_that_is_not_asked_for_is_noticed() -> None:
    model, optimizer, _ = begun("masked", "label-smoothing")
    with pytest.raises(RegrowError, match=r"label-smoothing does nothing: train by loss = sparsifier.loss"):
        plain(model, optimizer, 1)


def test_rescaling_sparse_layers_is_refused() -> None:
    model = nn.Sequential(SparseLinear(8, 8, 20), nn.ReLU(), SparseLinear(8, 4, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RegrowError, match=r"'0.weight' belongs to a sparse layer, which has no second derivatives"):
        regrow.sparsify(
            model,
            optimizer,
            method="static",
            topology="built",
            backend="sparse",
            tweaks=["rescaled-init"],
            batches=[(torch.ones(2, 8), torch.ones(2, dtype=torch.long))],
            total_steps=9,
        )


def test_ghosts_refuse_data_parallel_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer, sparsifier = start("masked")
    sparsifier.finalize()
    keys = [*model.state_dict()]
    monkeypatch.setattr("regrow.tweaks.life.dist.is_initialized", lambda: True)
    monkeypatch.setattr("regrow.tweaks.life.dist.get_world_size", lambda: 2)
    monkeypatch.setattr("regrow.sparsifier.shell.check_ranks", lambda *_: None)
    with pytest.raises(RegrowError, match=r"ghost-skip: .* DistributedDataParallel cannot follow"):
        regrow.sparsify(model, optimizer, method="static", density=0.5, total_steps=9, tweaks=["ghost-skip"])
    assert [*model.state_dict()] == keys


@pytest.mark.parametrize("name", TWEAKS)
def test_every_tweak_has_a_card(name: str) -> None:
    card = Path(__file__).parents[2] / "docs" / "tweaks" / f"{name}.md"
    assert card.read_text().startswith(f"# {name}\n")
