"""What predictions are worth: against torchmetrics and scikit-learn, by hand, and where they are degenerate."""

from __future__ import annotations

from collections.abc import Callable
from math import log, nan

import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot
from torchmetrics.functional import classification

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.metrics import diversity, ood, selective
from regrow.metrics.calibration import (
    accuracy,
    adaptive_ece,
    brier,
    ece,
    fit_temperature,
    nll,
    reliability,
    scaled,
)
from regrow.metrics.probabilities import ensemble


def predictions(members: int = 3, samples: int = 800, classes: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shared = torch.randn(samples, classes, generator=draw, dtype=torch.float64) * 2
    logits = shared + torch.randn(members, samples, classes, generator=draw)
    guess = torch.randint(classes, (samples,), generator=draw)
    labels = torch.where(torch.rand(samples, generator=draw) < 0.6, shared.argmax(-1), guess)
    return logits.softmax(-1), labels


MEMBERS, LABELS = predictions()
MEAN = ensemble(MEMBERS)
SURE = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]])


@pytest.mark.parametrize("bins", [5, 14, 15, 20])
def test_ece_is_torchmetrics_ece(bins: int) -> None:
    for p in (MEAN, *MEMBERS):
        theirs = classification.multiclass_calibration_error(p.double(), LABELS, p.shape[1], n_bins=bins)
        assert ece(p, LABELS, bins) == pytest.approx(theirs.item(), abs=1e-6)


def test_accuracy_nll_and_brier_are_those_of_others() -> None:
    p, y = MEAN, LABELS
    assert accuracy(p, y) == oracle.accuracy_score(y, p.argmax(1))
    assert nll(p, y) == pytest.approx(oracle.log_loss(y, p), abs=1e-6)
    assert nll(p, y) == pytest.approx(nll_loss(p.log(), y).item(), abs=1e-6)
    assert brier(p, y) == pytest.approx((p - one_hot(y, 7)).square().sum(1).mean().item(), abs=1e-6)
    binary = torch.stack([1 - p[:, 0], p[:, 0]], 1)
    assert brier(binary, (y == 0).long()) == pytest.approx(2 * oracle.brier_score_loss(y == 0, p[:, 0]), abs=1e-6)


def test_detection_is_scikit_learns_and_torchmetrics() -> None:
    inside, outside = ood.entropy(MEMBERS), ood.entropy(predictions(seed=1)[0].sqrt().softmax(-1))
    found = ood.detection(inside, outside)
    scores, truth = torch.cat([inside, outside]), torch.tensor([0] * 800 + [1] * 800)
    assert found.auroc == pytest.approx(oracle.roc_auc_score(truth, scores), abs=1e-6)
    assert found.aupr == pytest.approx(oracle.average_precision_score(truth, scores), abs=1e-6)
    assert found.auroc == pytest.approx(classification.binary_auroc(scores, truth).item(), abs=1e-6)
    assert found.aupr == pytest.approx(classification.binary_average_precision(scores, truth).item(), abs=1e-6)


def test_detection_by_hand() -> None:
    """Of 20 outside samples 19 are flagged at a threshold that 2 of 4 inside ones pass; one pair in 80 ties."""
    inside = torch.tensor([0.1, 0.2, 0.6, 0.7])
    outside = torch.cat([torch.full((19,), 0.5), torch.tensor([0.1])])
    found = ood.detection(inside, outside)
    assert found.fpr95 == 0.5
    assert found.auroc == pytest.approx((19 * 2 + 0.5) / 80)
    perfect = ood.detection(torch.zeros(3), torch.ones(5))
    assert perfect == ood.Detection(auroc=1.0, aupr=1.0, fpr95=0.0)


def test_confidence_as_often_right_as_it_says_has_no_ece() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    assert ece(SURE, labels) == pytest.approx(0, abs=1e-7)
    assert adaptive_ece(SURE, labels, bins=1) == pytest.approx(0, abs=1e-7)
    assert ece(SURE, torch.zeros(5).long()) == pytest.approx(0.2, abs=1e-7)
    assert brier(SURE, labels) == pytest.approx((4 * 2 * 0.2**2 + 2 * 0.8**2) / 5)
    assert nll(SURE, labels) == pytest.approx(-(4 * log(0.8) + log(0.2)) / 5)


def test_reliability_by_hand() -> None:
    p = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    rows = reliability(p, torch.tensor([0, 1, 0, 1]), bins=4)
    assert [row.high for row in rows] == [0.25, 0.5, 0.75, 1]
    assert [row.count for row in rows] == [0, 1, 1, 2]
    assert [row.accuracy for row in rows] == [0, 0, 1, 0.5]
    assert [row.confidence for row in rows] == pytest.approx([0, 0.5, 0.6, 0.95])


def test_adaptive_ece_by_hand() -> None:
    """Two bins of two: confidences .5 .6 with accuracy .5, and .9 1 with accuracy .5."""
    p = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    assert adaptive_ece(p, torch.tensor([0, 1, 0, 1]), bins=2) == pytest.approx((0.05 + 0.45) / 2)


def test_jensen_the_ensemble_is_no_worse_than_its_members_on_average() -> None:
    for weights in (None, torch.tensor([1.0, 2.0, 5.0])):
        shares = torch.full((3,), 1 / 3) if weights is None else weights / weights.sum()
        each = torch.tensor([nll(p, LABELS) for p in MEMBERS])
        assert nll(ensemble(MEMBERS, weights), LABELS) <= float(shares @ each)


def test_temperature_finds_the_scale_it_was_given() -> None:
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(20_000, 5, generator=draw, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=draw).squeeze(1)
    assert fit_temperature((logits / 0.4).softmax(-1), labels) == pytest.approx(1 / 0.4, rel=0.03)
    torch.testing.assert_close(scaled(logits.softmax(-1), 2.5), (logits / 2.5).softmax(-1))


def test_temperature_is_a_minimum_and_bounded() -> None:
    best = fit_temperature(MEAN, LABELS)
    assert all(nll(scaled(MEAN, best), LABELS) <= nll(scaled(MEAN, best * factor), LABELS) for factor in (0.99, 1.01))
    assert fit_temperature(SURE, torch.zeros(5).long()) == pytest.approx(0.05)
    assert fit_temperature(SURE, torch.ones(5).long()) == pytest.approx(20)


def test_diversity_by_hand() -> None:
    one, other = torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[0.5, 0.5], [0.3, 0.7]])
    members = torch.stack([one, other, one])
    assert diversity.disagreement(members) == pytest.approx(2 * 0.5 / 3)  # 2 of 3 pairs, on one sample of two
    forth, back = ((p * (p / q).log()).sum(1).mean().item() for p, q in ((one, other), (other, one)))
    assert diversity.divergence(members) == pytest.approx((2 * forth + 2 * back) / 6)
    assert diversity.divergences(members).diagonal().tolist() == pytest.approx([0, 0, 0])


def test_overlap_by_hand() -> None:
    masks = [torch.tensor([[1, 1, 0, 0]]), torch.tensor([[1, 0, 1, 0]]), torch.tensor([[1, 1, 0, 0]])]
    topologies = [Topology.from_masks({"w": mask}) for mask in masks]
    assert diversity.overlap(topologies) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)


def test_mutual_information_is_what_members_disagree_on() -> None:
    one = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert ood.mutual_information(torch.stack([one, one])).tolist() == [0, 0]
    assert ood.mutual_information(torch.stack([one, one.flip(1)])).tolist() == pytest.approx([log(2), 0])
    assert ood.entropy(torch.stack([one, one.flip(1)])).tolist() == pytest.approx([log(2), log(2)])
    assert ood.max_probability(one[None]).tolist() == [0, 0.5]
    lopsided = ood.mutual_information(torch.stack([one, one.flip(1)]), torch.tensor([3.0, 0.0]))
    assert lopsided.tolist() == [0, 0]


def test_risk_coverage_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    labels = torch.tensor([0, 0, 0, 1])
    assert selective.risks(p, labels).tolist() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert selective.aurc(p, labels) == pytest.approx((1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert selective.accuracy_at(p, labels, 0.25) == 1
    assert selective.accuracy_at(p, labels, 1) == accuracy(p, labels)
    ties = [selective.risks(SURE, torch.tensor(labels)).tolist() for labels in ([0, 0, 0, 0, 1], [1, 0, 0, 0, 0])]
    assert ties[0] == ties[1] == pytest.approx([0.2] * 5)


def test_degenerate_predictions_have_finite_values() -> None:
    wrong = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert nll(wrong, torch.tensor([0, 0])) == pytest.approx(87.3, abs=0.1)
    assert ece(wrong, torch.tensor([0, 0])) == 1
    assert diversity.divergence(torch.stack([wrong, wrong.flip(1)])) == pytest.approx(87.3, abs=0.1)
    only = torch.ones(4, 1)
    labels = torch.zeros(4, dtype=torch.int64)
    assert [metric(only, labels) for metric in (nll, brier, ece, adaptive_ece, selective.aurc)] == [0, 0, 0, 0, 0]
    assert ood.entropy(only[None]).tolist() == [0, 0, 0, 0]


ENSEMBLES: list[Callable[..., object]] = [diversity.disagreement, diversity.divergence, *ood.SCORES.values()]
LABELLED: list[Callable[[Tensor, Tensor], object]] = [nll, brier, ece, adaptive_ece, accuracy, fit_temperature]


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        (MEMBERS, LABELS, "take the mean over members first"),
        (MEAN, LABELS[:-1], "do not fit"),
        (MEAN[0], LABELS, "give [..., samples, classes]"),
        (MEAN[:0], LABELS[:0], "shape (0, 7)"),
        (MEAN.log(), LABELS, "`.softmax(-1)`"),
        (MEAN * 2, LABELS, "sum to between"),
        (torch.where(torch.arange(800)[:, None] == 3, nan, MEAN), LABELS, "1 rows of the probabilities hold NaN"),
        (MEAN, LABELS + 1, "0..6"),
        (MEAN, LABELS.double(), "whole numbers"),
        (one_hot(LABELS), LABELS, "floating-point"),
    ],
)
def test_bad_predictions_are_refused_by_name(probabilities: Tensor, labels: Tensor, words: str) -> None:
    for metric in (*LABELLED, selective.aurc):
        with pytest.raises(RegrowError) as caught:
            metric(probabilities, labels)
        assert words in str(caught.value)


def test_bad_members_are_refused_by_name() -> None:
    for metric in ENSEMBLES:
        with pytest.raises(RegrowError, match=r"give \[members, samples, classes\]"):
            metric(MEAN)
    with pytest.raises(RegrowError, match="1 member"):
        diversity.disagreement(MEMBERS[:1])
    with pytest.raises(RegrowError, match="do not fit 3 members"):
        ensemble(MEMBERS, torch.ones(2))
    with pytest.raises(RegrowError, match="scores outside"):
        ood.detection(torch.ones(3), torch.tensor([nan]))
    with pytest.raises(RegrowError, match="bins = 0"):
        ece(MEAN, LABELS, bins=0)
    with pytest.raises(RegrowError, match="coverage = 0"):
        selective.accuracy_at(MEAN, LABELS, 0)
