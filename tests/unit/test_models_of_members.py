"""TreeNet, BatchEnsemble and MIMO: what they share, what one member is, what training and evaluation return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow import RegrowError
from regrow.recipe.build import job_of
from regrow.recipe.load import load
from regrow.train.loop import fit
from regrow.train.models import build
from regrow.train.models.batch_ensemble import BatchEnsemble, RankOne
from regrow.train.models.members import Members, each
from regrow.train.models.mimo import MIMO
from regrow.train.models.treenet import TreeNet
from regrow.train.paths import RunFolder

SHAPE, CLASSES, HIDDEN = (1, 4, 4), 5, (12, 8)
NAMES = ("treenet", "batch_ensemble", "mimo")
X, Y = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(6) % CLASSES


def made(name: str, members: int = 3, seed: int = 0, **options: int) -> Members:
    torch.manual_seed(seed)
    model = build(name, SHAPE, CLASSES, hidden=HIDDEN, members=members, **options)
    assert isinstance(model, Members)
    return model


def plain(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("mlp", SHAPE, CLASSES, hidden=HIDDEN)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_members_in_training_and_their_mean_in_evaluation(name: str) -> None:
    model = made(name)
    assert model(X).shape == (3, 6, CLASSES)
    out, members = model.eval()(X), model.logits(X)
    torch.testing.assert_close(out.exp(), members.softmax(-1).mean(0))
    assert len({tuple(m.argmax(-1).tolist()) for m in members}) > 1  # they differ


@pytest.mark.parametrize("name", NAMES)
def test_one_member_is_the_plain_network(name: str) -> None:
    model = made(name, members=1)
    for layer in model.modules():
        if isinstance(layer, RankOne):
            nn.init.ones_(layer.r), nn.init.ones_(layer.s)
    torch.testing.assert_close(model(X)[0], plain()(X))
    torch.testing.assert_close(model.eval()(X), plain()(X).log_softmax(-1))


def test_parameter_counts() -> None:
    fc1, fc2, fc3 = (16 * 12, 12), (12 * 8, 8), (8 * 5, 5)
    whole = sum(map(sum, (fc1, fc2, fc3)))
    assert parameters(made("treenet", 3)) == sum(fc1) + 3 * (sum(fc2) + sum(fc3))
    assert parameters(made("treenet", 3, shared=0)) == 3 * whole
    vectors = (16 + 12 + 12) + (12 + 8 + 8) + (8 + 5 + 5)  # r, s and bias
    assert parameters(made("batch_ensemble", 4)) == fc1[0] + fc2[0] + fc3[0] + 4 * vectors
    assert parameters(made("mimo", 3)) == whole + 2 * fc1[0] + 2 * sum(fc3)


def test_batch_ensemble_is_rank_one_weights() -> None:
    """Each member alone, with its W o (s r^T) written out; convolutions too."""
    torch.manual_seed(0)
    model = BatchEnsemble(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)), 2)
    for layer in (model.network[0], model.network[3]):  # type: ignore[index]
        nn.init.normal_(layer.r), nn.init.normal_(layer.s), nn.init.normal_(layer.b)
    x = torch.randn(5, 2, 4, 4)
    for m, logits in enumerate(model(x)):
        conv, linear = model.network[0], model.network[3]  # type: ignore[index]
        y = nn.functional.conv2d(x, written_out(conv, m), conv.b[m], padding=1).relu().flatten(1)
        torch.testing.assert_close(logits, nn.functional.linear(y, written_out(linear, m), linear.b[m]))


def written_out(layer: RankOne, m: int) -> Tensor:
    both = layer.s[m][:, None] * layer.r[m]
    return layer.layer.weight * both.view(*both.shape, *[1] * (layer.layer.weight.dim() - 2))


def test_mimo_reads_other_samples_in_training_and_answers_for_its_own() -> None:
    """With a network whose m-th output is its m-th input, every member returns the batch in order."""
    model = MIMO(lambda shape, classes: nn.Flatten(), (5, 1, 1), 5, 3)
    x = torch.randn(8, 5, 1, 1)
    assert all(torch.equal(member, x.flatten(1)) for member in model(x))
    seen: list[Tensor] = []
    model.network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(x), model.eval()(x)
    training, evaluation = (inputs.flatten(2)[..., 0].chunk(3, 1) for inputs in seen)
    assert not torch.equal(training[0], training[1])
    assert torch.equal(evaluation[0], evaluation[1])


def test_each_member_has_its_own_loss() -> None:
    outputs, loss = torch.randn(3, 6, CLASSES), each(nn.CrossEntropyLoss(label_smoothing=0.1))
    alone = [cross_entropy(member, Y, label_smoothing=0.1) for member in outputs]
    torch.testing.assert_close(loss(outputs, Y), torch.stack(alone).mean())
    assert torch.equal(loss(outputs[0], Y), alone[0])


@pytest.mark.parametrize("backend", ["masked", "sparse"])
@pytest.mark.parametrize("name", NAMES)
def test_they_train_sparsely(name: str, backend: str) -> None:
    model, loss = made(name), each(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = regrow.sparsify(
        model, optimizer, method="rigl-itop", density=0.5, total_steps=30, every=5, backend=backend
    )
    losses = []
    for _ in range(30):
        losses.append(loss(model(X), Y))
        losses[-1].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert sparsifier.last_update is not None
    assert model.eval()(X).shape == (6, CLASSES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_them(name: str, tmp_path: Path) -> None:
    settings = [f"model={{name: {name}, hidden: [16]}}", "method=null", "density=null", "epochs=1"]
    job = job_of(load("smoke/digits", settings), seed=0)
    result = fit(job, RunFolder(tmp_path / name))
    assert result["test_accuracy"] > 0.2
    assert result["flops"]["training_ratio"] == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made("mimo", members=0), "at least one"),
        (lambda: TreeNet(lambda: nn.Sequential(nn.ReLU()), 2, 1), r"shared=1: of a network of 1 modules 0 to 0"),
        (lambda: build("small_mlp", SHAPE, CLASSES, density=2.0), r"outside \(0, 1\]"),
        (lambda: build("small_mlp", SHAPE, CLASSES, density=1e-5), "no perceptron is as small"),
    ],
)
def test_impossible_members(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(RegrowError, match=message):
        make()


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.05])
def test_small_dense_has_the_weights_of_a_sparse_network(density: float) -> None:
    with torch.device("meta"):
        small, large = (
            sum(p.numel() for p in build(name, **options).parameters() if p.dim() == 2)
            for name, options in (("small_mlp", {"density": density}), ("mlp", {}))
        )
    assert 0.98 * density * large < small <= density * large
