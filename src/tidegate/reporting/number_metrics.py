"""How well numbers were predicted: errors, correlations, their uncertainty, and the texts that were missed most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidegate.data.pairs import shown
from tidegate.errors import DataError
from tidegate.reporting.scores import NUMBER_MONITORS, number_score

__all__ = ["NUMBER_FIGURES", "NumberMistake", "number_metrics", "worst_errors"]

NUMBER_FIGURES = tuple(name for name in NUMBER_MONITORS if name != "loss")
_PARTS = 5


@dataclass(frozen=True)
class NumberMistake:
    """A test text whose number was predicted badly.

    Attributes:
        text: the text as it was read.
        target: the right number.
        predicted: the number that the model gave.
        origin: where the text stands, such as ``reviews.csv:17``.
    """

    text: str
    target: float
    predicted: float
    origin: str = ""


def number_metrics(y_true: ArrayLike, predictions: ArrayLike) -> dict[str, Any]:
    """Judge predicted numbers against the right ones.

    Args:
        y_true: right numbers [n].
        predictions: [n], in the same unit.

    Returns:
        A dict that can be written as JSON:

        - ``count``: n.
        - ``mae``, with ``standard_error`` and ``interval``, its 95% interval ``[low, high]`` of normal errors; ``mse``,
          ``rmse``, ``r2``, ``pearson``, ``spearman``. A figure that the rows do not define, as a correlation of equal
          numbers, is NaN.
        - ``bias``: the mean of predicted less right.
        - ``guess``: the mean absolute error of always saying the median of ``y_true``.
        - ``by_size``: for each fifth of the rows, from the smallest right numbers to the largest, ``low, high, count,
          mae, bias``.

    Raises:
        DataError: no numbers, not as many predictions as numbers, or one that is not finite.
    """
    truth, predicted = _checked(y_true, predictions)
    errors = np.abs(predicted - truth)
    mae = float(errors.mean())
    standard_error = float(errors.std(ddof=1) / math.sqrt(len(errors))) if len(errors) > 1 else math.nan
    rows = np.array_split(np.argsort(truth, kind="stable"), min(_PARTS, len(truth)))
    return {
        "count": len(truth),
        **{name: number_score(name, truth, predicted) for name in NUMBER_FIGURES},
        "standard_error": standard_error,
        "interval": [mae - 1.959964 * standard_error, mae + 1.959964 * standard_error],
        "bias": float((predicted - truth).mean()),
        "guess": float(np.abs(truth - np.median(truth)).mean()),
        "by_size": [
            {
                "low": float(truth[part].min()),
                "high": float(truth[part].max()),
                "count": len(part),
                "mae": float(errors[part].mean()),
                "bias": float((predicted - truth)[part].mean()),
            }
            for part in rows
        ],
    }


def worst_errors(
    texts: Sequence[str],
    y_true: ArrayLike,
    predictions: ArrayLike,
    origins: Sequence[str] | None = None,
    most: int = 20,
) -> list[NumberMistake]:
    """The texts whose numbers were missed by most, the worst first; equals stay in the order of ``texts``.

    Args:
        texts: the n texts.
        y_true: their right numbers [n].
        predictions: [n].
        origins: where each text stands.
        most: at most so many.

    Raises:
        DataError: as `number_metrics`, and where the numbers of texts, targets and origins differ.
    """
    truth, predicted = _checked(y_true, predictions)
    for name, values in (("texts", texts), ("origins", origins)):
        if values is not None and len(values) != len(truth):
            raise DataError(f"expected as many {name} as numbers, found {len(values)} {name} and {len(truth)} numbers")
    worst: list[int] = np.argsort(-np.abs(predicted - truth), kind="stable")[: max(0, most)].tolist()
    places = origins if origins is not None else [""] * len(truth)
    return [NumberMistake(shown(texts[row]), float(truth[row]), float(predicted[row]), places[row]) for row in worst]


def _checked(y_true: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = np.asarray(y_true, dtype=np.float64).ravel()
    predicted = np.asarray(predictions, dtype=np.float64).ravel()
    if not len(truth):
        raise DataError("expected at least one number to judge a model on, found none")
    if len(truth) != len(predicted):
        raise DataError(f"expected a prediction for each of {len(truth)} numbers, found {len(predicted)}")
    for name, values in (("right number", truth), ("prediction", predicted)):
        if (bad := np.flatnonzero(~np.isfinite(values))).size:
            raise DataError(f"expected finite numbers, found the {name} {values[bad[0]]} in row {bad[0]}")
    return truth, predicted
