from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as skm
from sklearn.calibration import calibration_curve

from tidegate.reporting.scores import (
    CLASS_MONITORS,
    LABEL_MONITORS,
    NUMBER_MONITORS,
    calibration_error,
    class_score,
    label_score,
    number_score,
    reliability_bins,
    sign_of,
)

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 3, 60)
PROBABILITIES = RNG.dirichlet(np.ones(3), 60)
WEIGHTS = RNG.uniform(0.2, 3, 60)
LABELS = RNG.integers(0, 2, (60, 4))
EACH = RNG.uniform(size=(60, 4))
NUMBERS = RNG.normal(size=60)
PREDICTED = NUMBERS + RNG.normal(size=60)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_figures_of_three_classes_are_scikit_learns(weights: np.ndarray | None) -> None:
    said = PROBABILITIES.argmax(1)
    by = {"sample_weight": weights}
    rest = [
        (
            skm.roc_auc_score(c == TARGETS, PROBABILITIES[:, c], **by),
            skm.average_precision_score(c == TARGETS, PROBABILITIES[:, c], **by),
        )
        for c in range(3)
    ]
    expected = {
        "accuracy": skm.accuracy_score(TARGETS, said, **by),
        "balanced_accuracy": skm.balanced_accuracy_score(TARGETS, said, **by),
        "macro_f1": skm.f1_score(TARGETS, said, average="macro", **by),
        "micro_f1": skm.f1_score(TARGETS, said, average="micro", **by),
        "matthews": skm.matthews_corrcoef(TARGETS, said, **by),
        "log_loss": skm.log_loss(TARGETS, PROBABILITIES, **by),
        "roc_auc": np.mean([area for area, _ in rest]),
        "average_precision": np.mean([precision for _, precision in rest]),
    }
    if weights is None:
        expected["roc_auc"] = skm.roc_auc_score(TARGETS, PROBABILITIES, multi_class="ovr")
    assert {*expected, "loss", "calibration_error"} == set(CLASS_MONITORS)
    for name, value in expected.items():
        assert class_score(name, TARGETS, PROBABILITIES, weights) == pytest.approx(value), name


def test_areas_of_two_classes_are_those_of_the_second() -> None:
    yes = (TARGETS > 0).astype(int)
    both = np.stack([1 - EACH[:, 0], EACH[:, 0]], 1)
    assert class_score("roc_auc", yes, both, WEIGHTS) == pytest.approx(
        skm.roc_auc_score(yes, EACH[:, 0], sample_weight=WEIGHTS)
    )
    assert class_score("average_precision", yes, both) == pytest.approx(skm.average_precision_score(yes, EACH[:, 0]))


def test_a_class_that_does_not_occur_is_left_out_and_one_alone_defines_no_area() -> None:
    two = np.where(TARGETS == 2, 0, TARGETS)
    expected = np.mean([skm.roc_auc_score(two == c, PROBABILITIES[:, c]) for c in (0, 1)])
    assert class_score("roc_auc", two, PROBABILITIES) == pytest.approx(expected)
    alone = np.zeros(60, dtype=int)
    assert math.isnan(class_score("roc_auc", alone, PROBABILITIES))
    certain = np.tile([1.0, 0.0, 0.0], (60, 1))
    assert class_score("matthews", alone, certain) == 0
    assert class_score("balanced_accuracy", alone, certain) == 1


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_figures_of_labels_are_scikit_learns(weights: np.ndarray | None) -> None:
    thresholds = np.array([0.3, 0.5, 0.6, 0.9])
    said = (thresholds <= EACH).astype(int)
    by = {"sample_weight": weights}
    each = {"sample_weight": None if weights is None else np.repeat(weights, 4)}
    expected = {
        "accuracy": skm.accuracy_score(LABELS, said, **by),
        "macro_f1": skm.f1_score(LABELS, said, average="macro", **by),
        "micro_f1": skm.f1_score(LABELS, said, average="micro", **by),
        "matthews": skm.matthews_corrcoef(LABELS.ravel(), said.ravel(), **each),
        "log_loss": skm.log_loss(LABELS.ravel(), EACH.ravel(), **each),
        "roc_auc": skm.roc_auc_score(LABELS, EACH, average="macro", **by),
        "average_precision": skm.average_precision_score(LABELS, EACH, average="macro", **by),
    }
    assert {*expected, "loss", "calibration_error"} == set(LABEL_MONITORS)
    for name, value in expected.items():
        assert label_score(name, LABELS, EACH, weights, thresholds) == pytest.approx(value), name


def test_one_label_is_a_label_and_not_two_classes() -> None:
    said = EACH[:, :1] >= 0.5
    expected = skm.f1_score(LABELS[:, 0], said[:, 0])
    for name in ("macro_f1", "micro_f1"):
        assert label_score(name, LABELS[:, :1], EACH[:, :1]) == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
def test_figures_of_numbers_are_scikit_learns_and_scipys(weights: np.ndarray | None) -> None:
    by = {"sample_weight": weights}
    expected = {
        "mae": skm.mean_absolute_error(NUMBERS, PREDICTED, **by),
        "mse": skm.mean_squared_error(NUMBERS, PREDICTED, **by),
        "rmse": skm.root_mean_squared_error(NUMBERS, PREDICTED, **by),
        "r2": skm.r2_score(NUMBERS, PREDICTED, **by),
        "pearson": stats.pearsonr(NUMBERS, PREDICTED).statistic,
        "spearman": stats.spearmanr(NUMBERS, PREDICTED).statistic,
    }
    if weights is not None:
        covariance = np.cov(NUMBERS, PREDICTED, aweights=weights)
        expected["pearson"] = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        ranks = np.cov(stats.rankdata(NUMBERS), stats.rankdata(PREDICTED), aweights=weights)
        expected["spearman"] = ranks[0, 1] / np.sqrt(ranks[0, 0] * ranks[1, 1])
    assert {*expected, "loss"} == set(NUMBER_MONITORS)
    for name, value in expected.items():
        assert number_score(name, NUMBERS, PREDICTED, weights) == pytest.approx(value), name
    assert math.isnan(number_score("pearson", NUMBERS, np.zeros(60)))
    ties = np.round(PREDICTED)
    assert number_score("spearman", NUMBERS, ties) == pytest.approx(stats.spearmanr(NUMBERS, ties).statistic)


def test_the_calibration_error_counted_by_hand() -> None:
    # Two bins: (0.6, 0.667] holds three answers of which one is right, (0.933, 1] one that is right.
    confidence, right = np.array([0.62, 0.64, 0.66, 1.0]), np.array([True, False, False, True])
    bins = reliability_bins(confidence, right)
    assert [(entry["low"], entry["high"]) for entry in bins] == [(9 / 15, 10 / 15), (14 / 15, 1.0)]
    assert [entry["share"] for entry in bins] == [0.75, 0.25]
    assert bins[0]["confidence"] == pytest.approx(0.64) and bins[0]["accuracy"] == pytest.approx(1 / 3)
    assert calibration_error(confidence, right) == pytest.approx(0.75 * (0.64 - 1 / 3))
    heavy = calibration_error(confidence, right, np.array([2.0, 1, 1, 4]))
    assert heavy == pytest.approx(0.5 * abs((2 * 0.62 + 0.64 + 0.66) / 4 - 0.5))
    assert reliability_bins(np.array([0.0]), np.array([False]))[0]["low"] == 0


def test_the_bins_of_reliability_are_scikit_learns() -> None:
    right = LABELS.ravel() == 1
    accuracy, confidence = calibration_curve(right, EACH.ravel(), n_bins=15)
    bins = reliability_bins(EACH.ravel(), right)
    np.testing.assert_allclose([entry["accuracy"] for entry in bins], accuracy)
    np.testing.assert_allclose([entry["confidence"] for entry in bins], confidence)
    expected = sum(entry["share"] * abs(entry["accuracy"] - entry["confidence"]) for entry in bins)
    assert label_score("calibration_error", LABELS, EACH) == pytest.approx(expected)
    top = calibration_error(PROBABILITIES.max(1), PROBABILITIES.argmax(1) == TARGETS)
    assert class_score("calibration_error", TARGETS, PROBABILITIES) == pytest.approx(top)


def test_which_way_is_better() -> None:
    lower = {"loss", "log_loss", "calibration_error", "mae", "mse", "rmse"}
    for name in {*CLASS_MONITORS, *LABEL_MONITORS, *NUMBER_MONITORS}:
        assert sign_of(name) == (-1 if name in lower else 1), name
