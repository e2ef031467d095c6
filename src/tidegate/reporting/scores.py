"""Figures by which outputs are judged against what is right, each from all rows at once, through scikit-learn.

These are what ``monitor`` may name, and what the metrics of a report are made of. A figure that the rows do not define,
as an area under a curve where there is one class, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import require

__all__ = [
    "CLASS_MONITORS",
    "LABEL_MONITORS",
    "LOWER_IS_BETTER",
    "NUMBER_MONITORS",
    "ClassMonitor",
    "calibration_error",
    "class_score",
    "confidences",
    "decision_score",
    "label_score",
    "number_score",
    "reliability_bins",
    "sign_of",
]

# Of these a lower one is better, of all others a higher one.
LOWER_IS_BETTER = ("loss", "log_loss", "calibration_error", "mae", "mse", "rmse", "perplexity")
ClassMonitor = Literal[
    "accuracy",
    "loss",
    "balanced_accuracy",
    "macro_f1",
    "micro_f1",
    "roc_auc",
    "average_precision",
    "matthews",
    "log_loss",
    "calibration_error",
]
CLASS_MONITORS: tuple[str, ...] = get_args(ClassMonitor)
LABEL_MONITORS = tuple(name for name in CLASS_MONITORS if name != "balanced_accuracy")
NUMBER_MONITORS = ("loss", "mae", "mse", "rmse", "r2", "pearson", "spearman")
BINS = 15  # of Guo et al. 2017

Numbers = NDArray[np.floating[Any]]
Weights = NDArray[np.floating[Any]] | None


def sign_of(monitor: str) -> float:
    """1 where a higher figure of this name, or of a task of several as ``rating_mae``, is better, else -1."""
    return -1.0 if any(monitor == name or monitor.endswith(f"_{name}") for name in LOWER_IS_BETTER) else 1.0


def class_score(name: str, targets: NDArray[np.int64], probabilities: Numbers, weights: Weights = None) -> float:
    """A figure of a classifier.

    Args:
        name: One of :data:`CLASS_MONITORS` but ``"loss"``.
        targets: ``[n]``, the places of the right classes.
        probabilities: ``[n, C]``, each row a distribution.
        weights: ``[n]``, or None for ones.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1``, the mean over the
        classes that occur or are predicted; ``micro_f1``; ``matthews``, the correlation coefficient of Matthews 1975
        and Gorodkin 2004; ``log_loss`` in nats; ``calibration_error``, see `calibration_error`. ``roc_auc`` and
        ``average_precision`` are of the second of two classes, and of more the mean, each class against the rest.
    """
    skm: Any = require("sklearn.metrics", "train")
    if name == "log_loss":
        count = probabilities.shape[1]
        # scikit-learn refuses the log-loss of a single class, which is zero by definition.
        return float(skm.log_loss(targets, _normalised(probabilities), labels=range(count), **_by(weights)))
    if name == "calibration_error":
        return calibration_error(*confidences(targets, probabilities), weights)
    if name in ("roc_auc", "average_precision"):
        count = probabilities.shape[1]
        chosen = [1] if count == 2 else range(count)
        return _mean_of_columns(
            name, np.equal.outer(targets, np.arange(count))[:, chosen], probabilities[:, chosen], weights
        )
    return decision_score(name, targets, probabilities.argmax(1), weights)


def decision_score(name: str, targets: NDArray[Any], predicted: NDArray[Any], weights: Weights = None) -> float:
    """A figure of decisions, which probabilities do not enter.

    Args:
        name: ``"accuracy"``, ``"balanced_accuracy"``, ``"macro_f1"``, ``"micro_f1"`` or ``"matthews"``.
        targets: ``[n]``.
        predicted: ``[n]``.
        weights: ``[n]``, or None for ones.
    """
    skm: Any = require("sklearn.metrics", "train")
    if name in ("macro_f1", "micro_f1"):
        average = name.removesuffix("_f1")
        return float(skm.f1_score(targets, predicted, average=average, zero_division=0.0, **_by(weights)))
    if name == "balanced_accuracy":
        occurring = np.unique(targets)
        return float(
            skm.recall_score(targets, predicted, labels=occurring, average="macro", zero_division=0.0, **_by(weights))
        )
    if name == "matthews":
        return _matthews(targets, predicted, weights)
    return float(skm.accuracy_score(targets, predicted, **_by(weights)))


def label_score(
    name: str,
    targets: NDArray[Any],
    probabilities: Numbers,
    weights: Weights = None,
    thresholds: float | Numbers = 0.5,
) -> float:
    """A figure of a model that gives a row several labels or none.

    Args:
        name: One of :data:`LABEL_MONITORS` but ``"loss"``.
        targets: ``[n, C]``, 1 where the row has the label, else 0.
        probabilities: ``[n, C]`` of each label by itself.
        weights: ``[n]``, or None for ones.
        thresholds: From where on a label is predicted, one for all or ``[C]``.

    Returns:
        ``accuracy``, the share of rows of which every label is right; ``macro_f1``, the mean over labels, and
        ``micro_f1``, over all decisions together; ``matthews``, ``log_loss`` and ``calibration_error`` over all
        decisions together; ``roc_auc`` and ``average_precision``, means over the labels that some rows have and others
        not.
    """
    skm: Any = require("sklearn.metrics", "train")
    truth = np.asarray(targets) > 0.5
    if name in ("roc_auc", "average_precision"):
        return _mean_of_columns(name, truth, probabilities, weights)
    each = None if weights is None else np.repeat(weights, truth.shape[1])
    if name == "calibration_error":
        return calibration_error(probabilities.ravel(), truth.ravel(), each)
    if name == "log_loss":
        flat = probabilities.ravel().astype(np.float64)
        return float(skm.log_loss(truth.ravel(), np.stack([1 - flat, flat], 1), labels=[False, True], **_by(each)))
    predicted = probabilities >= thresholds
    if name == "matthews":
        return _matthews(truth.ravel(), predicted.ravel(), each)
    if name in ("macro_f1", "micro_f1"):
        # One column is read as one label, not as a class and its absence.
        average = name.removesuffix("_f1")
        columns = (truth.astype(int), predicted.astype(int))
        if truth.shape[1] == 1:
            return float(skm.f1_score(*columns, average="binary", zero_division=0.0, **_by(weights)))
        return float(skm.f1_score(*columns, average=average, zero_division=0.0, **_by(weights)))
    return float(np.average((predicted == truth).all(1), weights=weights))


def number_score(name: str, targets: Numbers, predictions: Numbers, weights: Weights = None) -> float:
    """A figure of predicted numbers.

    Args:
        name: One of :data:`NUMBER_MONITORS` but ``"loss"``.
        targets: ``[n]``.
        predictions: ``[n]``.
        weights: ``[n]``, or None for ones.

    Returns:
        ``mae``, ``mse`` and ``rmse``, the mean absolute and squared error and its root; ``r2``, the share of variance
        explained; the correlation of ``pearson``, and that of the ranks, ``spearman``.
    """
    skm: Any = require("sklearn.metrics", "train")
    targets, predictions = np.asarray(targets, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if name in ("pearson", "spearman"):
        if name == "spearman":
            rank = require("scipy.stats", "train").rankdata
            targets, predictions = rank(targets), rank(predictions)
        return _correlation(targets, predictions, weights)
    if name == "r2":
        return float(skm.r2_score(targets, predictions, **_by(weights))) if len(targets) > 1 else math.nan
    functions: dict[str, Callable[..., float]] = {
        "mae": skm.mean_absolute_error,
        "mse": skm.mean_squared_error,
        "rmse": skm.root_mean_squared_error,
    }
    return float(functions[name](targets, predictions, **_by(weights)))


def confidences(targets: NDArray[np.int64], probabilities: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Of each row the probability of the class that is predicted, and whether that is the right one."""
    return probabilities.max(1), probabilities.argmax(1) == targets


def reliability_bins(confidence: Numbers, right: NDArray[np.bool_], weights: Weights = None) -> list[dict[str, float]]:
    """How often what was said with some confidence was right: bins of equal width from 0 to 1, without empty ones.

    Args:
        confidence: ``[n]``, probabilities.
        right: ``[n]``, whether what they are the probabilities of came true.
        weights: ``[n]``, or None for ones.

    Returns:
        ``low`` and ``high`` of each bin, the mean ``confidence`` in it, the share that was right as ``accuracy``, and
        its ``share`` of all rows.
    """
    weights = np.ones(len(confidence)) if weights is None else np.asarray(weights, dtype=np.float64)
    confidence = np.asarray(confidence, dtype=np.float64)
    # A bin holds its upper end, as in Guo et al.; the first one 0 as well.
    places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    totals = np.bincount(places, weights, BINS)
    sums = {
        "confidence": np.bincount(places, weights * confidence, BINS),
        "accuracy": np.bincount(places, weights * right, BINS),
    }
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            **{name: float(values[place] / totals[place]) for name, values in sums.items()},
            "share": float(totals[place] / totals.sum()),
        }
        for place in np.flatnonzero(totals).tolist()
    ]


def calibration_error(confidence: Numbers, right: NDArray[np.bool_], weights: Weights = None) -> float:
    """The expected calibration error (Naeini et al. 2015): how far confidence and accuracy lie apart, by 15 bins.

    Arguments as those of `reliability_bins`.
    """
    bins = reliability_bins(confidence, right, weights)
    return float(sum(entry["share"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins))


def _mean_of_columns(name: str, truth: NDArray[Any], probabilities: Numbers, weights: Weights) -> float:
    """The mean over the columns of which some rows are true and others not; NaN where there is none."""
    skm: Any = require("sklearn.metrics", "train")
    function = {"roc_auc": skm.roc_auc_score, "average_precision": skm.average_precision_score}[name]
    kept = [place for place in range(truth.shape[1]) if 0 < truth[:, place].sum() < len(truth)]
    if not kept:
        return math.nan
    return float(np.mean([function(truth[:, place], probabilities[:, place], **_by(weights)) for place in kept]))


def _matthews(targets: NDArray[Any], predicted: NDArray[Any], weights: Weights) -> float:
    skm: Any = require("sklearn.metrics", "train")
    if len(np.unique(targets)) == 1 and np.array_equal(np.unique(targets), np.unique(predicted)):
        return 0.0  # by convention, of which scikit-learn warns
    return float(skm.matthews_corrcoef(targets, predicted, **_by(weights)))


def _correlation(first: Numbers, second: Numbers, weights: Weights) -> float:
    first, second = first - np.average(first, weights=weights), second - np.average(second, weights=weights)
    spread = math.sqrt(np.average(first**2, weights=weights) * np.average(second**2, weights=weights))
    return float(np.average(first * second, weights=weights)) / spread if spread else math.nan


def _normalised(probabilities: Numbers) -> Numbers:
    matrix = np.asarray(probabilities, dtype=np.float64)
    return matrix / matrix.sum(1, keepdims=True)


def _by(weights: Weights) -> dict[str, Any]:
    return {} if weights is None else {"sample_weight": weights}
