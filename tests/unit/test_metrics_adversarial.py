"""Attacks stay in their ball and on the pixels, do what the formula says, and find what they should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import regrow
from regrow.core.errors import RegrowError
from regrow.metrics.adversarial import attacks, fgsm, pgd
from regrow.metrics.calibration import nll

EPS = 0.1


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


def samples() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(50, 1, 4, 4, generator=draw), torch.randint(4, (50,), generator=draw)


X, LABELS = samples()


@pytest.mark.parametrize("attack", attacks(EPS).values(), ids=attacks(EPS))
def test_attacks_raise_the_loss_inside_their_ball(attack: object) -> None:
    model = network()
    predict = lambda u: model((u - 0.5) / 0.2).softmax(-1)  # noqa: E731
    found = attack(predict, X, LABELS)  # type: ignore[operator]
    assert (found - X).abs().max() <= EPS + 1e-6
    assert (found.min() >= 0, found.max() <= 1) == (True, True)
    assert nll(predict(found), LABELS) > nll(predict(X), LABELS) + 0.1
    assert torch.equal(found, attack(predict, X, LABELS))  # type: ignore[operator]
    assert not found.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


def test_fgsm_by_hand() -> None:
    """p = softmax(w u): the gradient of -log p_0 has the sign of w_1 - w_0, and zero stays."""
    weight = torch.tensor([[1.0, -2.0, 0.0], [0.0, 1.0, 0.0]])
    u = torch.tensor([[0.5, 0.95, 0.5]])
    found = fgsm(lambda x: (x @ weight.T).softmax(-1), u, torch.tensor([0]), EPS)
    torch.testing.assert_close(found, torch.tensor([[0.4, 1.0, 0.5]]))


def test_pgd_finds_more_than_fgsm_and_nothing_at_radius_zero() -> None:
    model = network()
    predict = lambda u: model((u - 0.5) / 0.2).softmax(-1)  # noqa: E731
    once, often = (nll(predict(attack(predict, X, LABELS)), LABELS) for attack in attacks(EPS).values())
    assert often > once
    torch.testing.assert_close(pgd(predict, X, LABELS, eps=0.0), X)
    assert torch.equal(fgsm(predict, X, LABELS, eps=0.0), X)


def test_an_ensemble_is_attacked_through_its_mean() -> None:
    members = [network(seed) for seed in range(3)]
    predict = lambda u: torch.stack([m(u).softmax(-1) for m in members]).mean(0)  # noqa: E731
    whole = nll(predict(fgsm(predict, X, LABELS, EPS)), LABELS)
    one = nll(predict(fgsm(lambda u: members[0](u).softmax(-1), X, LABELS, EPS)), LABELS)
    assert whole > one


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_both_backends_are_attacked_alike(backend: str) -> None:
    plain, model = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = regrow.sparsify(model, optimizer, method="static", density=0.5, total_steps=10, backend=backend)
    plain.load_state_dict(model.state_dict())
    expected = fgsm(lambda u: plain(u).softmax(-1), X, LABELS, EPS)
    torch.testing.assert_close(fgsm(lambda u: model(u).softmax(-1), X, LABELS, EPS), expected)
    assert sparsifier.density == pytest.approx(0.5, abs=0.01)


def test_refusals() -> None:
    with pytest.raises(RegrowError, match="put the normalisation into `predict`"):
        fgsm(lambda u: u.flatten(1).softmax(-1), X * 3 - 1, LABELS)
    with pytest.raises(RegrowError, match="eps = -1"):
        pgd(lambda u: u.flatten(1).softmax(-1), X, LABELS, eps=-1)
