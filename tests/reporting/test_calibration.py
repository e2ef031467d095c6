from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as skm

from tidegate.reporting.calibration import (
    DECISION_FIGURES,
    calibration_figures,
    fit_temperature,
    softened,
    tune_threshold,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(400, 3)) * 2
CLASSES = np.array([RNG.choice(3, p=row) for row in np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)])


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(1).numpy()


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_a_temperature_undoes_what_logits_were_multiplied_by(factor: float) -> None:
    plain = fit_temperature(LOGITS, CLASSES)
    assert plain == pytest.approx(1.0, abs=0.2)  # the classes were drawn from these very probabilities
    assert fit_temperature(factor * LOGITS, CLASSES) == pytest.approx(factor * plain, rel=1e-3)


def test_the_temperature_is_the_one_of_the_least_weighted_log_loss() -> None:
    weights = RNG.uniform(0.1, 3, size=400)
    found = fit_temperature(2.5 * LOGITS, CLASSES, weights)
    losses = {
        step: skm.log_loss(CLASSES, softmax(2.5 * LOGITS / (found * step)), sample_weight=weights)
        for step in (0.9, 0.99, 1.0, 1.01, 1.1)
    }
    assert min(losses, key=lambda step: losses[step]) == 1.0


def test_labels_have_a_temperature_as_well() -> None:
    there = (RNG.uniform(size=(400, 3)) < 1 / (1 + np.exp(-LOGITS))).astype(int)
    weights = RNG.uniform(0.1, 3, size=400)
    found = fit_temperature(3 * LOGITS, there, weights)
    assert found == pytest.approx(3, rel=0.15)

    def loss(temperature: float) -> float:
        p = 1 / (1 + np.exp(-3 * LOGITS / temperature))
        each = -(there * np.log(p) + (1 - there) * np.log1p(-p))
        return float(np.average(each.mean(1), weights=weights))

    assert loss(found) < min(loss(0.98 * found), loss(1.02 * found))


def test_answers_that_are_all_right_or_say_nothing_fit_no_temperature() -> None:
    for factor in (0.1, 10):
        with pytest.warns(UserWarning, match="no temperature was fitted: all of these rows are right"):
            assert fit_temperature(factor * np.eye(3), np.arange(3)) == 1
    with pytest.warns(UserWarning, match="the outputs say nothing, so that flat probabilities have the least"):
        assert fit_temperature(np.eye(3), np.array([1, 2, 0])) == 1


def test_softened_probabilities_are_those_of_divided_logits() -> None:
    np.testing.assert_allclose(softened(softmax(LOGITS), 2.5), softmax(LOGITS / 2.5), atol=1e-12)
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    np.testing.assert_allclose(softened(sigmoid, 0.5, labels=True), 1 / (1 + np.exp(-2 * LOGITS)), atol=1e-12)


def test_a_fitted_temperature_lowers_log_loss_and_calibration_error() -> None:
    over = softmax(3 * LOGITS)
    temperature = fit_temperature(3 * LOGITS, CLASSES)
    before, after = calibration_figures(over, CLASSES), calibration_figures(softened(over, temperature), CLASSES)
    assert after["log_loss"] < before["log_loss"]
    assert after["calibration_error"] < 0.5 * before["calibration_error"]
    assert before["log_loss"] == pytest.approx(skm.log_loss(CLASSES, over))


def brute_force(figure: str, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    """The best value of a figure over thresholds between all probabilities, through scikit-learn."""
    functions = {
        "accuracy": skm.accuracy_score,
        "balanced_accuracy": skm.balanced_accuracy_score,
        "matthews": skm.matthews_corrcoef,
        "f1": skm.f1_score,
        "macro_f1": lambda *a, **k: skm.f1_score(*a, average="macro", **k),
        "micro_f1": lambda *a, **k: skm.f1_score(*a, average="micro", **k),
    }
    edges = np.unique(np.r_[0, probabilities, 1])
    values = [
        functions[figure](targets, probabilities >= edge, sample_weight=weights)
        for edge in (edges[:-1] + edges[1:]) / 2
    ]
    return max(values)


@pytest.mark.parametrize("figure", DECISION_FIGURES)
def test_a_threshold_is_the_best_of_all(figure: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        targets = rng.integers(0, 2, 40)
        probabilities = np.round(np.clip(0.3 * targets + rng.uniform(0, 0.7, 40), 0, 1), 1)  # with equals
        weights = rng.uniform(0.2, 2, 40)
        threshold = tune_threshold(figure, targets, probabilities, weights)
        assert 0 < threshold < 1
        assert not np.any(np.isclose(probabilities, threshold))
        functions = brute_force(figure, targets, probabilities, weights)
        own = brute_force(figure, targets, (probabilities >= threshold).astype(float), weights)
        assert own == pytest.approx(functions)


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken() -> None:
    assert tune_threshold("accuracy", np.array([0, 1]), np.array([0.1, 0.7])) == pytest.approx(0.4)
    assert tune_threshold("f1", np.array([1, 0, 1]), np.array([0.2, 0.1, 0.9])) == pytest.approx(0.15)
    assert tune_threshold("f1", np.array([1, 1]), np.array([0.2, 0.1])) == 0.5
    with pytest.raises(ValueError, match=r"figure must be one of accuracy, .*; found 'roc_auc'"):
        tune_threshold("roc_auc", np.array([0, 1]), np.array([0.1, 0.7]))
