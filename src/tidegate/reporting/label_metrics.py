"""How well several labels a text were predicted: figures of decisions and of probabilities, and the worst texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.data.pairs import shown
from tidegate.errors import DataError, require
from tidegate.reporting.calibration import calibration_figures
from tidegate.reporting.metrics import Label, accuracy_standard_error, wilson_interval
from tidegate.reporting.scores import label_score

__all__ = ["LabelMistake", "label_metrics", "worst_label_mistakes"]


@dataclass(frozen=True)
class LabelMistake:
    """A test text with labels that are missing, or that are not its own.

    Attributes:
        text: the text as it was read.
        labels: the right labels.
        predicted: the labels that the model gave.
        loss: the mean binary cross-entropy of the labels, in nats.
        origin: where the text stands, such as ``reviews.csv:17``.
    """

    text: str
    labels: Sequence[Label]
    predicted: Sequence[Label]
    loss: float
    origin: str = ""


def label_metrics(
    targets: ArrayLike, probabilities: ArrayLike, classes: Sequence[Label], thresholds: ArrayLike = 0.5
) -> dict[str, Any]:
    """Judge the probabilities of labels.

    Args:
        targets: [n, C], 1 where the text has the label, else 0.
        probabilities: [n, C], of each label by itself.
        classes: the C labels.
        thresholds: from which probability on a label is predicted, [C] or one for all.

    Returns:
        A dict that can be written as JSON:

        - ``count``: n.
        - ``accuracy``, the share of texts of which every label is right, with ``standard_error`` and ``interval``, the
          95% Wilson interval; ``label_accuracy``, the share of all decisions.
        - ``micro_f1``, ``macro_f1``, ``matthews``, ``roc_auc``, ``average_precision``, ``log_loss`` and
          ``calibration_error``, as `label_score` defines them, and ``reliability``.
        - ``labels_per_text``: ``right`` and ``predicted`` ones.
        - ``per_class``: for each label ``label, precision, recall, f1, support, average_precision, threshold``; a ratio
          without cases is 0, an average precision of a label that no text or every text has is NaN.

    Raises:
        DataError: no texts, shapes that do not fit, or probabilities out of [0, 1].
    """
    truth, matrix, limits = _checked(targets, probabilities, classes, thresholds)
    predicted = matrix >= limits
    skm: Any = require("sklearn.metrics", "train")
    each = [
        skm.precision_recall_fscore_support(truth[:, c], predicted[:, c], average="binary", zero_division=0.0)
        for c in range(len(classes))
    ]
    accuracy = label_score("accuracy", truth, matrix, thresholds=limits)
    names = ("micro_f1", "macro_f1", "matthews", "roc_auc", "average_precision")
    return {
        "count": len(truth),
        "accuracy": accuracy,
        "standard_error": accuracy_standard_error(accuracy, len(truth)),
        "interval": list(wilson_interval(accuracy, len(truth))),
        "label_accuracy": float((predicted == truth).mean()),
        **{name: label_score(name, truth, matrix, thresholds=limits) for name in names},
        **calibration_figures(matrix, truth),
        "labels_per_text": {"right": float(truth.sum(1).mean()), "predicted": float(predicted.sum(1).mean())},
        "per_class": [
            {
                "label": label.item() if isinstance(label, np.generic) else label,
                "precision": float(each[c][0]),
                "recall": float(each[c][1]),
                "f1": float(each[c][2]),
                "support": int(truth[:, c].sum()),
                "average_precision": label_score("average_precision", truth[:, c : c + 1], matrix[:, c : c + 1]),
                "threshold": float(limits[c]),
            }
            for c, label in enumerate(classes)
        ],
    }


def worst_label_mistakes(
    texts: Sequence[Any],
    targets: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[Label],
    thresholds: ArrayLike = 0.5,
    origins: Sequence[str] | None = None,
    most: int = 20,
) -> list[LabelMistake]:
    """The texts with a wrong label whose labels were the least probable, the worst first.

    Args:
        texts: the n texts.
        targets, probabilities, classes, thresholds: as for `label_metrics`.
        origins: where each text stands.
        most: at most so many.

    Raises:
        DataError: as `label_metrics`.
    """
    truth, matrix, limits = _checked(targets, probabilities, classes, thresholds)
    predicted = matrix >= limits
    likely = np.where(truth, matrix, 1 - matrix).clip(min=np.finfo(np.float32).tiny)
    losses = -np.log(likely).mean(1)
    wrong = np.flatnonzero((predicted != truth).any(1))
    worst: list[int] = wrong[np.argsort(-losses[wrong], kind="stable")][: max(0, most)].tolist()
    names = [label.item() if isinstance(label, np.generic) else label for label in classes]
    return [
        LabelMistake(
            text=shown(texts[row]),
            labels=[name for name, there in zip(names, truth[row], strict=True) if there],
            predicted=[name for name, there in zip(names, predicted[row], strict=True) if there],
            loss=float(losses[row]),
            origin=origins[row] if origins is not None else "",
        )
        for row in worst
    ]


def _checked(
    targets: ArrayLike, probabilities: ArrayLike, classes: Sequence[Label], thresholds: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    truth = np.asarray(targets, dtype=np.float64) > 0.5
    matrix = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 2 or not len(truth):
        raise DataError(f"expected the labels of at least one text as a matrix, found shape {truth.shape}")
    if matrix.shape != truth.shape or matrix.shape[1] != len(classes):
        raise DataError(
            f"expected probabilities of shape {(len(truth), len(classes))} for {len(classes)} labels, found "
            f"{matrix.shape}"
        )
    if not ((matrix >= 0) & (matrix <= 1)).all():
        raise DataError("expected probabilities from 0 to 1; found others, as a loss that is not finite gives")
    return truth, matrix, np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(classes),))
