"""What an estimator of several labels a text learns from: sets of labels or an indicator matrix, checked and split."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidegate.errors import DataError
from tidegate.estimators.base import check_choice, check_labels, resolve_class_weight

__all__ = ["check_label_rows", "indicate", "label_split", "resolve_label_weight"]


def check_label_rows(y: Any, num_rows: int) -> np.ndarray:
    """The labels of each row: ``[rows]`` tuples of labels, or, of an indicator matrix, ``[rows, labels]`` int8.

    Args:
        y: A collection of labels a row, of int or str, perhaps empty; or a matrix of zeros and ones, dense or sparse.
        num_rows: The rows of X.

    Raises:
        DataError: y is neither, or there is not one row of it for each row of X; the message says where.
    """
    if y is None:
        raise DataError("y is missing: fitting needs the labels of each row")
    if hasattr(y, "toarray"):
        y = y.toarray()
    if hasattr(y, "to_numpy"):
        y = y.to_numpy()
    if isinstance(y, np.ndarray) and y.ndim == 2:
        return _check_matrix(y, num_rows)
    rows = list(y)
    if len(rows) != num_rows:
        raise DataError(f"X has {num_rows} rows and y has {len(rows)}; there must be one collection of labels a row")
    for row, labels in enumerate(rows):
        if isinstance(labels, (str, bytes)) or not hasattr(labels, "__iter__"):
            raise DataError(
                f"row {row} of y must be a collection of labels, as ['funny', 'short']; found {labels!r:.60} "
                f"({type(labels).__name__}); split the text, or put a single label into a list"
            )
    sets = [tuple(labels) for labels in rows]
    flat = [label for labels in sets for label in labels]
    plain = check_labels(flat, len(flat)).tolist() if flat else []
    told = iter(plain)
    checked = np.empty(num_rows, dtype=object)
    for row, labels in enumerate(sets):
        checked[row] = tuple(dict.fromkeys(next(told) for _ in labels))
    return checked


def indicate(rows: np.ndarray, classes: np.ndarray | None, names: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """What `check_label_rows` gave as an indicator matrix ``[rows, labels]`` float32, and the labels of its columns.

    Args:
        rows: Tuples of labels, or a matrix.
        classes: The labels that there are; None takes those that occur.
        names: Of the columns of a matrix; None numbers them.

    Raises:
        DataError: There is no label, a label is none of `classes`, or a matrix has not as many columns.
    """
    if rows.ndim == 2:
        if classes is None:
            classes = np.arange(rows.shape[1]) if names is None else check_labels(list(names), rows.shape[1])
        elif len(classes) != rows.shape[1]:
            raise DataError(
                f"expected an indicator matrix of {len(classes)} columns, one a label; found {rows.shape[1]}"
            )
        return rows.astype(np.float32), classes
    found = np.array(sorted({label for labels in rows for label in labels}))
    if classes is None:
        if not len(found):
            raise DataError("y has no labels at all: every row is empty; check the label column and its separator")
        classes = found
    unseen = np.setdiff1d(found, classes) if not len(found) or found.dtype.kind == classes.dtype.kind else found
    if len(unseen):
        raise DataError(
            f"there are labels that the training data has not: {unseen[:5].tolist()}; known are {classes[:10].tolist()}"
        )
    matrix = np.zeros((len(rows), len(classes)), dtype=np.float32)
    for row, labels in enumerate(rows):
        matrix[row, np.searchsorted(classes, list(labels))] = 1
    return matrix, classes


def label_split(targets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for validation, of each label the same share in both.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): of the labels still to be dealt, the rarest is dealt
    first, each of its rows to the part that lacks it most.

    Args:
        targets: ``[rows, labels]``, 1 where a row has a label.
        fraction: The share of validation.
        seed: Of the order of the rows.
    """
    generator = np.random.default_rng(seed)
    there = targets > 0.5
    shares = np.array([1 - fraction, fraction])
    wanted = shares[:, None] * there.sum(0)
    rows_wanted = shares * len(there)
    part = np.full(len(there), -1)

    def deal(row: int, lack: np.ndarray) -> None:
        best = lack == lack.max()
        # Of equals the part that lacks rows most, training of all else.
        chosen = int(np.argmax(np.where(best, rows_wanted, -np.inf)))
        part[row] = chosen
        wanted[chosen] -= there[row]
        rows_wanted[chosen] -= 1

    order = generator.permutation(len(there))
    while True:
        left = there[part < 0].sum(0)
        if not left.any():
            break
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for row in order[(part[order] < 0) & there[order, label]].tolist():
            deal(row, wanted[:, label])
    for row in order[part[order] < 0].tolist():
        deal(row, rows_wanted)
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def resolve_label_weight(class_weight: Any, classes: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
    """By what the loss of a label that is there is multiplied, ``[C]``, or None where nothing is.

    Args:
        class_weight: None; ``"balanced"``, the rows without a label divided by those with it; or a mapping from labels
            to weights, where a label that it lacks weighs 1.
        classes: The labels.
        targets: ``[rows, C]``, 1 where a row has a label.

    Raises:
        ValueError: It is none of these, names a label that there is not, or has a weight that is not above 0.
    """
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, ("balanced",))
        there = targets.sum(0)
        return (len(targets) - there).clip(min=1) / there.clip(min=1)
    return resolve_class_weight(class_weight, classes, np.empty(0, dtype=np.int64))


def _check_matrix(y: np.ndarray, num_rows: int) -> np.ndarray:
    if len(y) != num_rows:
        raise DataError(f"X has {num_rows} rows and y has {len(y)}; there must be one row of labels a text")
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "an indicator matrix must hold 0 and 1; found other values; for labels by name give a list a row"
        ) from None
    wrong = np.argwhere((numbers != 0) & (numbers != 1))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise DataError(
            f"an indicator matrix must hold 0 and 1; found {y[row, column]!r} in row {row}, column {column}"
        )
    if not y.shape[1]:
        raise DataError("an indicator matrix must have a column for each label; found none")
    return numbers.astype(np.int8)
