"""MC-dropout and distillation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from regrow import RegrowError
from regrow.tickets.baselines import mc_dropout
from regrow.tickets.distill import Distillation, divergence
from regrow.train.models import build

X = torch.randn(7, 16, generator=torch.Generator().manual_seed(1))


def test_passes_differ_by_dropout_alone() -> None:
    model = nn.Sequential(build("mlp", (16,), 8, hidden=[32], dropout=0.5), nn.BatchNorm1d(8)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(0)
    passes = mc_dropout(model, X, 5)
    assert passes.shape == (5, 7, 8)
    torch.testing.assert_close(passes.sum(-1), torch.ones(5, 7))
    assert not torch.equal(passes[0], passes[1])
    torch.manual_seed(0)
    assert torch.equal(passes, mc_dropout(model, X, 5))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # BatchNorm's statistics too
    assert all(module.training for module in model.modules())


def test_many_passes_of_a_linear_model_average_to_evaluation() -> None:
    model = nn.Sequential(nn.Dropout(0.3), nn.Linear(16, 4)).eval()
    torch.manual_seed(0)
    mean = mc_dropout(model, X * 0.05, 3000).mean(0)
    torch.testing.assert_close(mean, model(X * 0.05).softmax(-1), atol=2e-3, rtol=0.0)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("dropout", "passes"), [(0.0, 3), (0.5, 0)])
def test_without_dropout_or_passes(dropout: float, passes: int) -> None:
    with pytest.raises(RegrowError, match="MC-dropout needs at least one of each"):
        mc_dropout(build("mlp", (16,), 8, hidden=[4], dropout=dropout), X, passes)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_is_hintons(temperature: float) -> None:
    teacher, student = torch.randn(2, 7, 5)
    ours = divergence(student, teacher.softmax(-1), temperature)
    softened = (teacher / temperature).log_softmax(-1)
    theirs = kl_div((student / temperature).log_softmax(-1), softened, log_target=True, reduction="batchmean")
    torch.testing.assert_close(ours, temperature**2 * theirs)
    assert abs(divergence(teacher, teacher.softmax(-1), temperature)) < 1e-5


def test_a_certain_teacher_is_a_label() -> None:
    student, labels = torch.randn(7, 5), torch.arange(7) % 5
    certain = nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(divergence(student, certain), cross_entropy(student, labels))


def test_a_student_learns_the_teacher() -> None:
    torch.manual_seed(0)
    members = [nn.Linear(16, 4) for _ in range(3)]

    def ensemble(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(x).softmax(-1) for member in members]).mean(0)

    student, distillation = nn.Linear(16, 4), Distillation(ensemble, temperature=2.0, share=0.9)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    inputs = torch.randn(64, 16)
    for _ in range(200):
        loss = distillation.loss(inputs)(student(inputs), ensemble(inputs).argmax(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert divergence(student(inputs), ensemble(inputs)) < 0.02
    assert all(member.weight.grad is None for member in members)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"share": 1.5}])
def test_impossible_distillations(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegrowError, match=r"in \[0, 1\]"):
        Distillation(lambda x: x, **wrong)
