"""Linear classifiers of bags of words: fitted by scikit-learn, kept as arrays, used with NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.errors import DataError, require
from tidegate.features.bag_of_words import SparseRows

__all__ = ["CLASSIFIERS", "LinearModel", "fit_linear", "fit_logistic", "fit_scale"]

CLASSIFIERS = ("logistic", "naive-bayes", "svm", "nbsvm")


@dataclass(frozen=True)
class LinearModel:
    """The scores ``x W + b`` of classes, and their softmax after a factor.

    Attributes:
        weights: ``[V, C]`` float32.
        intercept: ``[C]`` float32.
        scale: What the scores are multiplied with before the softmax: 1 where they are log odds, as those of logistic
            regression, and fitted where they are margins.
    """

    weights: np.ndarray
    intercept: np.ndarray
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.intercept.shape != self.weights.shape[1:]:
            raise DataError(f"a linear model: weights {self.weights.shape} and intercepts {self.intercept.shape}")

    def scores(self, rows: SparseRows) -> np.ndarray:
        """``[rows, C]`` float32."""
        return rows.times(self.weights) + self.intercept

    def probabilities(self, rows: SparseRows) -> np.ndarray:
        """``[rows, C]`` float32, each row of sum 1."""
        return _softmax(self.scores(rows) * np.float32(self.scale))


def fit_linear(
    kind: str,
    matrix: Any,
    targets: np.ndarray,
    weights: np.ndarray | None,
    *,
    C: float,
    alpha: float,
    interpolation: float,
) -> LinearModel:
    """Fit a linear model to rows of weights.

    - ``"logistic"``: logistic regression, multinomial where there are more than two classes.
    - ``"naive-bayes"``: multinomial naive Bayes (McCallum & Nigam 1998).
    - ``"svm"``: a linear support vector machine, one class against the others.
    - ``"nbsvm"`` (Wang & Manning 2012): a linear support vector machine over the rows times each term's log-count ratio
      ``r = ln((alpha + in the class) / its sum) - ln((alpha + in the others) / its sum)``, its weights then drawn to
      their mean magnitude: ``w' = (1 - interpolation) mean|w| + interpolation w``.

    Args:
        kind: One of `CLASSIFIERS`.
        matrix: ``scipy.sparse`` ``[rows, V]``, not negative.
        targets: ``[rows]`` class indices from 0, all of them there.
        weights: ``[rows]`` sample weights, or None.
        C: Inverse strength of the regularisation.
        alpha: What is added to the counts of naive Bayes and of NB-SVM.
        interpolation: Of NB-SVM, in [0, 1].
    """
    svm = require("sklearn.svm", "train")
    if kind == "naive-bayes":
        model = require("sklearn.naive_bayes", "train").MultinomialNB(alpha=alpha)
        model.fit(matrix, targets, sample_weight=weights)
        return _model(model.feature_log_prob_.T, model.class_log_prior_)
    if kind == "logistic":
        return fit_logistic(matrix, targets, weights, C=C)
    if kind == "svm":
        model = svm.LinearSVC(C=C, random_state=0, max_iter=5000)
        model.fit(matrix, targets, sample_weight=weights)
        return _model(*_both_classes(model.coef_, model.intercept_))
    columns, intercepts = [], []
    num_classes = int(targets.max()) + 1
    # Of two classes the second one's weights are those of the first one, negated.
    for target in [1] if num_classes == 2 else range(num_classes):
        inside = targets == target
        ratio = _log_count_ratio(matrix, inside, weights, alpha)
        model = svm.LinearSVC(C=C, random_state=0, max_iter=5000)
        model.fit(matrix.multiply(ratio).tocsr(), inside, sample_weight=weights)
        found = model.coef_[0]
        found = (1 - interpolation) * np.abs(found).mean() + interpolation * found
        columns.append(found * ratio)
        intercepts.append(model.intercept_[0])
    return _model(*_both_classes(np.stack(columns), np.array(intercepts)))


def fit_logistic(matrix: Any, targets: np.ndarray, weights: np.ndarray | None, *, C: float) -> LinearModel:
    """Logistic regression, multinomial where there are more than two classes; arguments as of `fit_linear`."""
    model = require("sklearn.linear_model", "train").LogisticRegression(C=C, max_iter=2000)
    model.fit(matrix, targets, sample_weight=weights)
    return _model(*_both_classes(model.coef_, model.intercept_ / 1.0, halve=True))


def _log_count_ratio(matrix: Any, inside: np.ndarray, weights: np.ndarray | None, alpha: float) -> np.ndarray:
    row_weights = np.ones(len(inside)) if weights is None else weights
    found = alpha + matrix.T @ (row_weights * inside)
    others = alpha + matrix.T @ (row_weights * ~inside)
    return np.log(found / found.sum()) - np.log(others / others.sum())


def _both_classes(weights: np.ndarray, intercept: np.ndarray, halve: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """``[C, V]`` to ``[V, C]``; of two classes scikit-learn keeps one row, the second class's."""
    if len(weights) > 1:
        return weights.T, intercept
    share = 0.5 if halve else 1.0  # the softmax of (-s/2, s/2) is the sigmoid of s
    return np.concatenate([-weights, weights]).T * share, np.concatenate([-intercept, intercept]) * share


def _model(weights: np.ndarray, intercept: np.ndarray) -> LinearModel:
    # Contiguous rows: prediction gathers the rows of a text's terms.
    return LinearModel(np.ascontiguousarray(weights, dtype=np.float32), intercept.astype(np.float32))


def fit_scale(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """The factor of scores ``[rows, C]`` whose softmax has the least cross-entropy (temperature; Guo et al. 2017)."""
    optimize = require("scipy.optimize", "train")
    row_weights = np.ones(len(targets)) if weights is None else weights
    scores = scores.astype(np.float64)

    def loss(log_scale: float) -> float:
        shares = _softmax(scores * np.exp(log_scale))[np.arange(len(targets)), targets]
        return float(-(row_weights * np.log(np.maximum(shares, 1e-300))).sum())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-4.0, 6.0), method="bounded").x))


def _softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
