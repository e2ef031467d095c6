"""How well a classifier did: metrics, their uncertainty, and the mistakes that are worth reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.data.pairs import shown
from tidegate.errors import DataError, require
from tidegate.reporting.facts import Mistake
from tidegate.reporting.scores import calibration_error, class_score, confidences, decision_score, reliability_bins

Label = str | int


def classification_metrics(
    y_true: ArrayLike, probabilities: ArrayLike, classes: Sequence[Label], threshold: float | None = None
) -> dict[str, Any]:
    """Judge a classifier's probabilities against the right labels.

    Args:
        y_true: right labels [n], each one of ``classes``.
        probabilities: [n, C], each row a distribution over ``classes`` in their order.
        classes: the C labels.
        threshold: of two classes, the probability from which on the second one is predicted; None predicts the most
            probable class.

    Returns:
        A dict that can be written as JSON:

        - ``count``: n.
        - ``accuracy``, with ``standard_error`` and ``interval``, the 95% Wilson interval ``[low, high]``.
        - ``macro_f1``: the mean F1 of the classes that occur in ``y_true`` or among the predictions; ``micro_f1``.
        - ``log_loss``: mean negative log-probability of the right label, in nats.
        - ``balanced_accuracy``, ``matthews``, ``roc_auc`` and ``average_precision``, as `class_score` defines them; the
          last two are NaN where only one class occurs.
        - ``calibration_error`` and ``reliability``: `calibration_error` and `reliability_bins` of the most probable
          class.
        - ``per_class``: for each class ``label, precision, recall, f1, support``. As in scikit-learn's report, a ratio
          without cases is 0: the recall of a class that ``y_true`` lacks, the precision of one never predicted.
        - ``confusion``: C rows of C counts; row = right label, column = predicted label.

    Raises:
        DataError: no examples, a label outside ``classes``, a wrong shape, or probabilities that are not distributions.
    """
    truth, matrix = _checked(y_true, probabilities, classes)
    predicted = decide(matrix, threshold)
    labels = np.arange(len(classes))
    skm = require("sklearn.metrics", "train")
    precision, recall, f1, support = skm.precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=0.0
    )
    accuracy = float(skm.accuracy_score(truth, predicted))
    confidence, right = confidences(truth, matrix)
    return {
        "count": len(truth),
        "accuracy": accuracy,
        "standard_error": accuracy_standard_error(accuracy, len(truth)),
        "interval": list(wilson_interval(accuracy, len(truth))),
        "macro_f1": float(skm.f1_score(truth, predicted, average="macro", zero_division=0.0)),
        "micro_f1": float(skm.f1_score(truth, predicted, labels=labels, average="micro", zero_division=0.0)),
        **{name: class_score(name, truth, matrix) for name in ("log_loss", "roc_auc", "average_precision")},
        **{name: decision_score(name, truth, predicted) for name in ("balanced_accuracy", "matthews")},
        "calibration_error": calibration_error(confidence, right),
        "reliability": reliability_bins(confidence, right),
        "per_class": [
            {
                "label": _plain(label),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
                "support": int(support[c]),
            }
            for c, label in enumerate(classes)
        ],
        "confusion": skm.confusion_matrix(truth, predicted, labels=labels).tolist(),
        **({} if threshold is None else {"threshold": float(threshold)}),
    }


def decide(probabilities: NDArray[Any], threshold: float | None) -> NDArray[np.int64]:
    """The place of the class that is predicted of each row, [n]: the most probable, or the second from a threshold on.

    Args:
        probabilities: [n, C].
        threshold: of two classes, or None.
    """
    return probabilities.argmax(axis=1) if threshold is None else (probabilities[:, 1] >= threshold).astype(np.int64)


def worst_mistakes(
    texts: Sequence[str],
    y_true: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[Label],
    origins: Sequence[str] | None = None,
    most: int = 20,
    threshold: float | None = None,
) -> list[Mistake]:
    """The wrongly labelled texts of which the model was surest, surest first; equals stay in the order of ``texts``.

    Args:
        texts: the n texts.
        y_true: their right labels [n].
        probabilities: [n, C], as for :func:`classification_metrics`.
        classes: the C labels.
        origins: where each text stands, such as ``reviews.csv:17``.
        most: at most so many mistakes.
        threshold: as for :func:`classification_metrics`; how sure the model was is then still a probability.

    Raises:
        DataError: as :func:`classification_metrics`, and where the numbers of texts, labels and origins differ.
    """
    truth, matrix = _checked(y_true, probabilities, classes)
    for name, values in (("texts", texts), ("origins", origins)):
        if values is not None and len(values) != len(truth):
            raise DataError(f"expected as many {name} as labels, found {len(values)} {name} and {len(truth)} labels")
    predicted = decide(matrix, threshold)
    confidence = np.take_along_axis(matrix, predicted[:, None], 1)[:, 0]
    wrong = np.flatnonzero(predicted != truth)
    worst: list[int] = wrong[np.argsort(-confidence[wrong], kind="stable")][: max(0, most)].tolist()
    return [
        Mistake(
            text=shown(texts[i]),
            label=_plain(classes[truth[i]]),
            predicted=_plain(classes[predicted[i]]),
            probability=float(confidence[i]),
            origin=origins[i] if origins is not None else "",
        )
        for i in worst
    ]


def accuracy_standard_error(accuracy: float, count: int) -> float:
    """Standard error of an accuracy over test examples, sqrt(a (1 - a) / n).

    This is what the bootstrap over examples tends to with ever more resamples. It says how far another test set of this
    size would move the figure; it does not include the spread between training seeds.
    """
    return math.sqrt(accuracy * (1.0 - accuracy) / count)


def wilson_interval(accuracy: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of an accuracy (Wilson 1927), 95% by default; it stays inside [0, 1] near the ends."""
    centre = (accuracy + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(accuracy * (1 - accuracy) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _checked(
    y_true: ArrayLike, probabilities: ArrayLike, classes: Sequence[Label]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The right labels as places in ``classes``, and the probabilities as float64 rows that sum to one."""
    place = {_plain(label): c for c, label in enumerate(classes)}
    labels = [_plain(label) for label in np.asarray(y_true, dtype=object).ravel()]
    if not labels:
        raise DataError("expected at least one labelled example to judge a model on, found none")
    unseen = sorted({repr(label) for label in labels if label not in place})
    if unseen:
        raise DataError(
            f"expected labels among {list(place)}, which the model was trained on; "
            f"found {', '.join(unseen[:5])}{' and more' if len(unseen) > 5 else ''}"
        )
    matrix = np.asarray(probabilities, dtype=np.float64)
    if matrix.shape != (len(labels), len(place)):
        raise DataError(f"expected probabilities of shape {(len(labels), len(place))}, found {matrix.shape}")
    totals = matrix.sum(axis=1)
    # Not `abs(...) > 1e-3`, which a NaN would pass.
    broken = np.flatnonzero(~((np.abs(totals - 1.0) <= 1e-3) & (matrix.min(axis=1) >= 0.0)))
    if len(broken):
        row = int(broken[0])
        raise DataError(
            f"expected rows of probabilities that sum to 1, found {matrix[row].tolist()} in row {row}; "
            "a loss that is not finite in training gives such rows"
        )
    return np.array([place[label] for label in labels], dtype=np.int64), matrix / totals[:, None]


def _plain(label: Any) -> Any:
    """A label as Python's own str or int, so that it can be written as JSON."""
    return label.item() if isinstance(label, np.generic) else label
