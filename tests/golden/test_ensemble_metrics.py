"""FreeTickets' evaluation of three members on 500 samples: ECE (of 14 bins there), NLL, disagreement, KL."""

from __future__ import annotations

import pytest
from replay import Golden

from regrow.metrics import diversity
from regrow.metrics.calibration import accuracy, ece, nll
from regrow.metrics.probabilities import ensemble

GOLDEN = Golden("ensemble_metrics")
MEMBERS = GOLDEN["logits"].softmax(-1)
LABELS = GOLDEN["labels"].long()
MEAN = ensemble(MEMBERS)


def test_ece_of_14_bins() -> None:
    assert [ece(p, LABELS, bins=14) for p in MEMBERS] == pytest.approx(GOLDEN["ece/members_code"].tolist(), abs=1e-5)
    assert ece(MEAN, LABELS, bins=14) == pytest.approx(GOLDEN["ece/ensemble_code"].item(), abs=1e-5)


def test_ece_of_every_number_of_bins() -> None:
    """The code's `num_bins` counts edges; so its 16 is the 15 of the papers, and ours."""
    pairs = zip(GOLDEN["ece/num_bins_args"].tolist(), GOLDEN["ece/ensemble_by_num_bins_arg"].tolist(), strict=True)
    for edges, expected in pairs:
        assert ece(MEAN, LABELS, bins=edges - 1) == pytest.approx(expected, abs=1e-5)
    assert ece(MEAN, LABELS) == pytest.approx(GOLDEN["ece/ensemble_15bins_num_bins_arg_16"].item(), abs=1e-5)


def test_nll_and_accuracy() -> None:
    assert [nll(p, LABELS) for p in MEMBERS] == pytest.approx(GOLDEN["nll/members_full"].tolist(), abs=1e-5)
    assert nll(MEAN, LABELS) == pytest.approx(GOLDEN["nll/ensemble"].item(), abs=1e-5)
    assert [accuracy(p, LABELS) for p in MEMBERS] == pytest.approx(GOLDEN["predict/member_acc"].tolist(), abs=1e-7)
    right, samples = GOLDEN["predict/ensemble_correct"].tolist()
    assert accuracy(MEAN, LABELS) == pytest.approx(right / samples, abs=1e-7)


def test_disagreement_without_the_inflation() -> None:
    matrix = diversity.disagreements(MEMBERS)
    assert matrix.flatten().tolist() == pytest.approx(GOLDEN["disagreement/matrix"].flatten().tolist(), abs=1e-7)
    printed = GOLDEN["disagreement/printed_mean"].item()
    assert diversity.disagreement(MEMBERS) == pytest.approx(printed - 1e-3, abs=1e-7)


def test_divergence_of_ordered_pairs() -> None:
    matrix = diversity.divergences(MEMBERS)
    values = [matrix[target, score].item() for target, score in GOLDEN["kl/pairs_target_vs_scores"].tolist()]
    assert values == pytest.approx(GOLDEN["kl/values"].tolist(), abs=1e-5)
    assert diversity.divergence(MEMBERS) == pytest.approx(GOLDEN["kl/mean"].item(), abs=1e-5)
