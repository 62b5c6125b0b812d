"""What `evaluate` reports is what the metrics say of the predictions, and nothing is chosen on the test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.lab.evaluation import Asked, Member, Subject, evaluate
from regrow.lab.evaluation.shifts import corrupted, outside
from regrow.metrics import calibration, diversity, ood
from regrow.train.data import Data, load
from regrow.train.data.corruptions import STANDARD
from regrow.train.data.tensors import TensorData


def trained(seed: int, steps: int = 30) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for (x, y), _ in zip(DIGITS.train(64, seed, 0), range(steps), strict=False):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


DIGITS = load("digits", validation=0.2)
MODELS = [trained(seed) for seed in range(3)]
SUBJECT = Subject("three", DIGITS, tuple(Member.of(str(i), model) for i, model in enumerate(MODELS)))


def said(split: str) -> tuple[Tensor, Tensor]:
    [(x, y)] = DIGITS.evaluate(split)
    return torch.stack([model(x).softmax(-1) for model in MODELS]), y


def test_every_system_is_reported_by_the_metrics() -> None:
    record = evaluate(SUBJECT)
    members, labels = said("test")
    assert list(record["systems"]) == ["member 0", "member 1", "member 2", "ensemble", "weighted"]
    assert (record["samples"], record["split"], record["data"]) == (360, "test", "digits")
    for p, name in zip((*members, members.double().mean(0)), record["systems"], strict=False):
        found = record["systems"][name]
        for metric in (calibration.accuracy, calibration.nll, calibration.brier, calibration.ece):
            assert found[metric.__name__] == pytest.approx(metric(p, labels), abs=1e-6)
        assert sum(row["count"] for row in found["reliability"]) == 360
    assert record["diversity"]["disagreement"] == pytest.approx(diversity.disagreement(members))
    assert record["diversity"]["overlap"] is None
    assert record["systems"]["ensemble"]["nll"] <= sum(record["systems"][f"member {i}"]["nll"] for i in range(3)) / 3


def test_temperature_and_weights_are_fitted_on_validation_only() -> None:
    """Other test labels change the scores, never what was fitted."""
    assert isinstance(DIGITS, TensorData)
    x, y = DIGITS.parts["test"]
    shuffled = replace(DIGITS, parts={**DIGITS.parts, "test": (x, y.flip(0))})
    honest, other = evaluate(SUBJECT), evaluate(replace(SUBJECT, data=shuffled))
    for name, found in honest["systems"].items():
        assert found["temperature"] == other["systems"][name]["temperature"]
        assert found["weights"] == other["systems"][name]["weights"]
        assert found["accuracy"] != other["systems"][name]["accuracy"]
    members, labels = said("val")
    best = calibration.fit_temperature(members.double().mean(0), labels)
    assert honest["systems"]["ensemble"]["temperature"] == pytest.approx(best, rel=1e-5)
    weights = torch.tensor(honest["systems"]["weighted"]["weights"])
    likely = [calibration.nll(torch.einsum("m,mnc->nc", w, members), labels) for w in (weights, torch.ones(3) / 3)]
    assert likely[0] <= likely[1]


def test_without_validation_nothing_is_fitted() -> None:
    record = evaluate(replace(SUBJECT, data=load("digits", validation=0.0)))
    assert "weighted" not in record["systems"]
    assert record["systems"]["ensemble"]["temperature"] is None
    assert "scaled" not in record["systems"]["ensemble"]


def test_others_are_judged_but_no_members() -> None:
    subject = Subject("two", DIGITS, SUBJECT.members[:2], (replace(SUBJECT.members[2], name="superposed"),))
    record = evaluate(subject)
    assert list(record["systems"]) == ["member 0", "member 1", "superposed", "ensemble", "weighted"]
    members, labels = said("test")
    assert record["systems"]["ensemble"]["nll"] == pytest.approx(calibration.nll(members[:2].mean(0), labels), abs=1e-6)
    assert record["systems"]["ensemble"]["weights"] == [0.5, 0.5, 0]
    assert len(record["diversity"]["disagreements"]) == 2


def test_one_member_has_no_ensemble() -> None:
    record = evaluate(replace(SUBJECT, members=SUBJECT.members[:1]), Asked(ood=("noise",)))
    assert list(record["systems"]) == ["member 0"]
    assert record["diversity"] is None
    assert set(record["systems"]["member 0"]["ood"]["noise"]) == {"max_probability", "entropy"}


def test_masks_overlap_where_there_are_masks() -> None:
    draw = torch.Generator().manual_seed(0)
    masks = [Topology.from_masks({"1.weight": torch.rand(24, 64, generator=draw) < 0.3}) for _ in range(3)]
    members = tuple(replace(m, topology=mask) for m, mask in zip(SUBJECT.members, masks, strict=True))
    record = evaluate(replace(SUBJECT, members=members))
    assert record["diversity"]["overlap"] == pytest.approx(0.3 / 1.7, abs=0.03)


def test_out_of_distribution_data_are_told_apart() -> None:
    record = evaluate(SUBJECT, Asked(ood=("noise", "synthetic:1x8x8x4", "usual")))
    there = torch.cat([member_predictions(x) for x, _ in outside("noise", DIGITS, "test", None)], 1)
    here, _ = said("test")
    for name, score in ood.SCORES.items():
        found = record["systems"]["ensemble"]["ood"]["noise"][name]
        expected = ood.detection(score(here, None), score(there, None))
        assert found["auroc"] == pytest.approx(expected.auroc, abs=1e-6)
        assert found["fpr95"] == pytest.approx(expected.fpr95, abs=1e-6)
    assert list(record["systems"]["weighted"]["ood"]) == ["noise", "synthetic:1x8x8x4"]  # the usual one was there


def member_predictions(x: Tensor) -> Tensor:
    return torch.stack([member.predict(x) for member in SUBJECT.members])


def test_another_data_set_is_normalised_as_the_models_own() -> None:
    [(x, _)] = outside("synthetic:1x8x8x4", DIGITS, "test", None)
    other = load("synthetic:1x8x8x4", validation=0.0)
    [(stored, _)] = other.evaluate("test")
    torch.testing.assert_close(DIGITS.pixels.of(x), other.pixels.of(stored), rtol=1e-4, atol=1e-5)


def test_corruptions_are_averaged_over_the_standard_kinds() -> None:
    record = evaluate(SUBJECT, Asked(corruptions=True))
    assert record["corruptions_left_out"] == ["frost", "spatter", "saturate"]
    found = record["systems"]["ensemble"]["corruption"]
    assert len(found["kinds"]) == 16
    assert all(len(rows) == 5 for rows in found["kinds"].values())
    rows = [row for kind in STANDARD for row in found["kinds"].get(kind, [])]
    assert len(rows) == 70
    assert found["accuracy"] == pytest.approx(sum(row["accuracy"] for row in rows) / 70)
    assert found["accuracy"] < record["systems"]["ensemble"]["accuracy"]
    batches = corrupted("fog", 3, DIGITS, "test", None)
    assert batches is not None
    pairs = [(member_predictions(x).double().mean(0), y) for x, y in batches]
    expected = calibration.nll(torch.cat([p for p, _ in pairs]), torch.cat([y for _, y in pairs]))
    assert found["kinds"]["fog"][2]["nll"] == pytest.approx(expected, abs=1e-6)


def test_every_system_is_attacked_itself() -> None:
    record = evaluate(SUBJECT, Asked(adversarial=True, eps=0.1))
    for found in record["systems"].values():
        assert found["adversarial"]["eps"] == 0.1
        for attack in ("fgsm", "pgd"):
            assert found["adversarial"][attack]["accuracy"] < found["accuracy"]
            assert found["adversarial"][attack]["nll"] > found["nll"]
    assert all(weight.grad is None for model in MODELS for weight in model.parameters())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ood": ("cifar20",)}, "unknown out-of-distribution data set 'cifar20'; did you mean 'cifar10'?"),
        ({"ood": ("digits",)}, "is what the model was trained on"),
        ({"ood": ("synthetic:3x8x8x4",)}, "inputs of shape (3, 8, 8)"),
        ({"ood": ("not_mnist",)}, "notMNIST"),
        ({"adversarial": True, "eps": 8.0}, "eps = 8.0"),
        ({"corruptions": True, "data": "flat"}, "cannot be corrupted here, and there are no official files"),
        ({"split": "train"}, "no split 'train'"),
    ],
)
def test_refusals(asked: dict[str, object], words: str, tmp_path: Path) -> None:
    subject = replace(SUBJECT, data=flat(tmp_path)) if asked.pop("data", None) else SUBJECT
    with pytest.raises(RegrowError) as caught:
        evaluate(subject, Asked(**asked), root=tmp_path)  # type: ignore[arg-type]
    assert words in str(caught.value)


def flat(folder: Path) -> Data:
    """Rows, no images."""
    x, y = np.random.default_rng(0).normal(size=(40, 64)), np.arange(40) % 10
    np.savez(folder / "flat.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return load(str(folder / "flat.npz"))


def test_a_diverged_member_is_refused() -> None:
    broken = Member("0", lambda x: torch.full((len(x), 10), float("nan")))
    with pytest.raises(RegrowError, match="NaN: the model has diverged"):
        evaluate(replace(SUBJECT, members=(broken,)))


def test_runs_on_different_data_make_no_ensemble() -> None:
    other: Data = load("synthetic:1x8x8x10")
    with pytest.raises(RegrowError, match="they make no ensemble"):
        Subject.together([SUBJECT, replace(SUBJECT, data=other)])
    both = Subject.together([SUBJECT, SUBJECT])
    assert [member.name for member in both.members] == ["0", "1", "2", "3", "4", "5"]
