"""What an estimator of numbers learns from: targets checked, levels found, rows split by their size."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.errors import DataError
from tidegate.estimators.base import check_data, stratified_split, validation_parts

__all__ = ["check_numbers", "find_levels", "number_split", "number_validation"]

_MOST_LEVELS = 50
_PARTS = 10


def check_numbers(y: Any, num_rows: int) -> np.ndarray:
    """Targets as an array of float64.

    Raises:
        DataError: A target is missing, is no finite number, or there is not one a row.
    """
    if y is None:
        raise DataError("y is missing: fitting needs one number a row")
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    given = np.asarray(y, dtype=object)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1:
        raise DataError(f"y must be one column of numbers; found an array of shape {given.shape}")
    if len(given) != num_rows:
        raise DataError(f"X has {num_rows} rows and y has {len(given)} numbers; there must be one number a row")
    numbers = np.empty(num_rows, dtype=np.float64)
    for row, value in enumerate(given):
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise DataError(
                f"the target of row {row} must be a number; found {value!r} ({type(value).__name__})"
            ) from None
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise DataError(
            f"the target of row {bad[0]} must be a finite number; found {numbers[bad[0]]}; leave the row out"
        )
    return numbers


def find_levels(numbers: np.ndarray) -> np.ndarray:
    """The whole ratings that occur, in rising order.

    Raises:
        DataError: A number is not whole, or there are fewer than two different ones, or too many for levels.
    """
    levels = np.unique(numbers)
    broken = levels[levels != np.round(levels)]
    if broken.size:
        raise DataError(
            f"loss='ordinal' learns whole ratings; found the target {broken[0]}; round y, or choose another loss"
        )
    if not 2 <= len(levels) <= _MOST_LEVELS:
        raise DataError(
            f"loss='ordinal' needs from 2 to {_MOST_LEVELS} different ratings in y; found {len(levels)}; "
            "choose another loss"
        )
    return levels


def number_validation(
    validation_data: Any, levels: np.ndarray | None
) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Texts, targets and weights of ``(X, y)`` or ``(X, y, sample_weight)``.

    Raises:
        DataError: It has another form, cannot be used, or has a rating that is not one of `levels`.
    """
    texts, numbers, weights = check_data(*validation_parts(validation_data), check_numbers, pairs=True)
    if levels is not None and len(unseen := np.setdiff1d(numbers, levels)):
        raise DataError(
            f"validation_data has ratings that the training data has not: {unseen[:5].tolist()}; "
            f"known are {levels.tolist()}"
        )
    return texts, numbers, weights


def number_split(numbers: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for validation, of both the same share of small, middling and large numbers.

    The numbers are cut at their deciles, and each part is split as `stratified_split` splits classes.
    """
    edges = np.unique(np.quantile(numbers, np.arange(1, _PARTS) / _PARTS))
    return stratified_split(np.searchsorted(edges, numbers), fraction, seed)
