from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from tidegate.errors import DataError
from tidegate.features.bag_of_words import SparseRows
from tidegate.features.linear_model import LinearModel, fit_linear, fit_scale

GENERATOR = np.random.default_rng(0)
DENSE = GENERATOR.poisson(0.7, size=(60, 12)).astype(np.float32)
MATRIX = sparse.csr_matrix(DENSE)
ROWS = SparseRows(MATRIX.indptr.astype(np.int64), MATRIX.indices.astype(np.int64), MATRIX.data, 12)
WEIGHTS = GENERATOR.uniform(0.5, 2.0, size=60)
SETTINGS = {"C": 0.7, "alpha": 0.5, "interpolation": 0.25}


def targets(num_classes: int) -> np.ndarray:
    scores = DENSE @ np.random.default_rng(1).normal(size=(12, num_classes))
    return scores.argmax(1)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_predictions_are_those_of_scikit_learn(num_classes: int, weights: np.ndarray | None) -> None:
    y = targets(num_classes)
    assert len(np.unique(y)) == num_classes
    logistic = LogisticRegression(C=0.7, max_iter=2000).fit(MATRIX, y, sample_weight=weights)
    ours = fit_linear("logistic", MATRIX, y, weights, **SETTINGS)
    np.testing.assert_allclose(ours.probabilities(ROWS), logistic.predict_proba(MATRIX), atol=2e-5)
    bayes = MultinomialNB(alpha=0.5).fit(MATRIX, y, sample_weight=weights)
    ours = fit_linear("naive-bayes", MATRIX, y, weights, **SETTINGS)
    np.testing.assert_allclose(ours.probabilities(ROWS), bayes.predict_proba(MATRIX), atol=2e-5)
    margins = LinearSVC(C=0.7, random_state=0, max_iter=5000).fit(MATRIX, y, sample_weight=weights)
    scores = fit_linear("svm", MATRIX, y, weights, **SETTINGS).scores(ROWS)
    found = scores[:, 1] if num_classes == 2 else scores
    np.testing.assert_allclose(found, margins.decision_function(MATRIX), atol=1e-4)
    np.testing.assert_array_equal(scores.argmax(1), margins.predict(MATRIX))


def test_nbsvm_is_the_papers() -> None:
    """Wang & Manning 2012, equations 1 and 4, written out row by row."""
    y = targets(2)
    p, q = np.full(12, 0.5), np.full(12, 0.5)
    for row, target in zip(DENSE, y, strict=True):
        if target == 1:
            p += row
        else:
            q += row
    ratio = np.log((p / np.abs(p).sum()) / (q / np.abs(q).sum()))
    svm = LinearSVC(C=0.7, random_state=0, max_iter=5000).fit(sparse.csr_matrix(DENSE * ratio), y == 1)
    w = svm.coef_[0]
    mixed = (1 - 0.25) * np.abs(w).mean() + 0.25 * w
    expected = (DENSE * ratio) @ mixed + svm.intercept_[0]
    scores = fit_linear("nbsvm", MATRIX, y, None, **SETTINGS).scores(ROWS)
    np.testing.assert_allclose(scores[:, 1], expected, atol=1e-4)
    np.testing.assert_allclose(scores[:, 0], -expected, atol=1e-4)
    three = fit_linear("nbsvm", MATRIX, targets(3), None, **SETTINGS).scores(ROWS)
    first = fit_linear("nbsvm", MATRIX, (targets(3) == 0).astype(int), None, **SETTINGS).scores(ROWS)
    np.testing.assert_allclose(three[:, 0], first[:, 1], atol=1e-4)


def test_weights_count_as_rows() -> None:
    y, counts = targets(2), GENERATOR.integers(1, 4, size=60)
    repeated = np.repeat(np.arange(60), counts)
    for kind in ("logistic", "naive-bayes", "svm", "nbsvm"):
        weighted = fit_linear(kind, MATRIX, y, counts.astype(float), **SETTINGS)
        rows = fit_linear(kind, MATRIX[repeated], y[repeated], None, **SETTINGS)
        np.testing.assert_allclose(weighted.scores(ROWS), rows.scores(ROWS), atol=2e-2, err_msg=kind)


def test_the_scale_has_the_least_cross_entropy() -> None:
    logits = GENERATOR.normal(size=(4000, 3))
    shares = np.exp(2.5 * logits)
    shares /= shares.sum(1, keepdims=True)
    y = np.array([GENERATOR.choice(3, p=row) for row in shares])
    assert fit_scale(logits, y, None) == pytest.approx(2.5, rel=0.08)
    doubled = fit_scale(logits, y, np.full(4000, 2.0))
    assert doubled == pytest.approx(fit_scale(logits, y, None), rel=1e-4)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"weights \(4, 2\) and intercepts \(3,\)"):
        LinearModel(np.zeros((4, 2), np.float32), np.zeros(3, np.float32))
