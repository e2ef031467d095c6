"""What several tasks learn from: columns of targets that may have holes, checked, numbered and split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidegate.errors import DataError, nearest
from tidegate.estimators.base import check_choice, check_labels, check_sample_weight, check_texts, stratified_split

__all__ = [
    "TASK_KINDS",
    "TaskSpec",
    "check_columns",
    "check_rows",
    "check_task_kinds",
    "check_task_weights",
    "join_data_sets",
    "make_tasks",
    "number_targets",
    "split_rows",
]

TASK_KINDS = ("classification", "regression")
_RESERVED = ("mean", "loss", "accuracy")  # names of metrics that `monitor` and the history have


@dataclass(frozen=True)
class TaskSpec:
    """A task: its name, and the labels of a classification in the order of its outputs; None is a regression."""

    name: str
    classes: np.ndarray | None

    @property
    def kind(self) -> str:
        """One of :data:`TASK_KINDS`."""
        return "regression" if self.classes is None else "classification"

    @property
    def num_classes(self) -> int | None:
        """The number of labels; None of a regression."""
        return None if self.classes is None else len(self.classes)

    @property
    def width(self) -> int:
        """Columns of the network's output."""
        return self.num_classes or 1


def join_data_sets(*data_sets: tuple[Any, Mapping[str, Any]]) -> tuple[list[Any], dict[str, list[Any]]]:
    """One data set out of several: the texts one after another, and None where a data set has not a task's targets.

    Args:
        data_sets: ``(X, y)`` pairs; y is a mapping from tasks to columns of targets.

    Raises:
        DataError: A data set cannot be used; the message says which, and where.
    """
    texts: list[Any] = []
    parts: list[tuple[int, dict[str, list[Any]]]] = []
    for number, (X, y) in enumerate(data_sets, start=1):
        try:
            more = check_texts(X, pairs=True)
            parts.append((len(more), check_columns(y, len(more))))
        except DataError as error:
            raise DataError(f"data set {number}: {error}") from None
        texts += more
    names = dict.fromkeys(name for _, columns in parts for name in columns)
    joined: dict[str, list[Any]] = {
        name: [value for count, columns in parts for value in columns.get(name, [None] * count)] for name in names
    }
    return texts, joined


def check_columns(y: Any, num_rows: int) -> dict[str, list[Any]]:
    """The columns of targets by task, each a value a row, with None where there is none.

    Raises:
        DataError: y is neither a mapping from names to columns nor a frame, or a column has not a value a row.
    """
    if y is None:
        raise DataError("y is missing: fitting needs a mapping from tasks to their targets, one a row")
    if hasattr(y, "columns") and hasattr(y, "__getitem__"):  # pandas and polars
        y = {name: y[name] for name in y.columns}
    if not isinstance(y, Mapping) or not y:
        raise DataError(
            "y must be a mapping from tasks to columns of targets, as {'label': [...], 'rating': [...]}, or a frame; "
            f"found {type(y).__name__ if y is None or not isinstance(y, Mapping) else 'an empty one'}"
        )
    columns = {}
    for name, column in y.items():
        if not isinstance(name, str) or not name:
            raise DataError(f"a task's name must be a text; found {name!r}")
        if name in _RESERVED:
            raise DataError(f"a task cannot be called {name!r}, which is the name of a metric; call it otherwise")
        values = column.to_numpy() if hasattr(column, "to_numpy") else column
        values = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if len(values) != num_rows:
            raise DataError(
                f"X has {num_rows} rows and y[{name!r}] has {len(values)}; there must be one target a row, None where "
                "it is missing"
            )
        columns[name] = [None if _is_missing(value) else value for value in values]
    return columns


def check_task_kinds(kinds: Any, columns: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """The kind of each task: as said, or, where nothing is said, a regression where targets are not all whole.

    Raises:
        ValueError: `kinds` is no mapping from tasks to :data:`TASK_KINDS`.
        DataError: The tasks are not those that have targets.
    """
    if kinds is None:
        return {name: "regression" if _is_real(values) else "classification" for name, values in columns.items()}
    if not isinstance(kinds, Mapping) or not kinds:
        raise ValueError(f"tasks must map each task to {' or '.join(TASK_KINDS)}, or be None; found {kinds!r}")
    for name, kind in kinds.items():
        check_choice(f"tasks[{name!r}]", kind, TASK_KINDS)
        if name not in columns:
            raise DataError(f"tasks names {name!r}, and y has no such column.{nearest(str(name), columns)}")
    if more := [name for name in columns if name not in kinds]:
        raise DataError(f"y has {more[0]!r}, which is none of tasks ({', '.join(kinds)}).{nearest(more[0], kinds)}")
    return {str(name): str(kind) for name, kind in kinds.items()}


def check_task_weights(weights: Any, names: Sequence[str], learned: str) -> None:
    """Refuse weights that are no mapping from tasks to numbers above 0; None and `learned` are others' matter.

    Raises:
        ValueError: They are not; the message says what is legal.
    """
    if weights is None:
        return
    if not isinstance(weights, Mapping):
        raise ValueError(f"task_weights must map tasks to weights, or be {learned!r} or None; found {weights!r}")
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(
                f"task_weights names {name!r}, which is none of the tasks {', '.join(names)}."
                f"{nearest(str(name), names)}"
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float, np.number)) or not 0 < weight < math.inf:
            raise ValueError(
                f"task_weights[{name!r}] must be a finite number above 0; found {weight!r}; to learn without a task, "
                "leave it out of y"
            )


def make_tasks(kinds: Mapping[str, str], columns: Mapping[str, Sequence[Any]]) -> list[TaskSpec]:
    """The tasks, with the labels that are found.

    Raises:
        DataError: A task has no target, or a classification one label alone; or as of `number_targets`.
    """
    tasks = []
    for name, kind in kinds.items():
        present = [value for value in columns[name] if value is not None]
        if not present:
            raise DataError(f"no row has a target of the task {name!r}; leave the task out")
        if kind == "regression":
            tasks.append(TaskSpec(name, None))
            continue
        classes = np.unique(_labels(name, columns[name]))
        if len(classes) < 2:
            raise DataError(
                f"the classification {name!r} needs at least two classes; all {len(present)} targets are "
                f"{classes[0].item()!r}; check the column"
            )
        tasks.append(TaskSpec(name, classes))
    return tasks


def number_targets(tasks: Sequence[TaskSpec], columns: Mapping[str, Sequence[Any]], where: str = "y") -> np.ndarray:
    """The number of each class and the numbers themselves, ``[rows, T]`` float64, NaN where there are none.

    Raises:
        DataError: A target is no label or number, or a label that the task has not; the message names the row.
    """
    rows = len(next(iter(columns.values())))
    targets = np.full((rows, len(tasks)), np.nan)
    for place, task in enumerate(tasks):
        values = columns.get(task.name, [None] * rows)
        known = [row for row, value in enumerate(values) if value is not None]
        if task.classes is None:
            targets[known, place] = [_number(task.name, row, values[row]) for row in known]
        elif known:
            labels = _labels(task.name, values)
            same = labels.dtype.kind == task.classes.dtype.kind
            unseen = np.setdiff1d(labels, task.classes) if same else np.unique(labels)
            if len(unseen):
                raise DataError(
                    f"{where}[{task.name!r}] has labels that the training data has not: {unseen[:5].tolist()}; "
                    f"known are {task.classes[:10].tolist()}"
                )
            targets[known, place] = np.searchsorted(task.classes, labels)
    return targets


def check_rows(X: Any, y: Any, sample_weight: Any) -> tuple[list[Any], dict[str, list[Any]], np.ndarray | None]:
    """Texts, columns and weights; rows of weight 0, and those without any target, are left out.

    Raises:
        DataError: X, y or sample_weight cannot be used, or no row is left.
    """
    texts = check_texts(X, pairs=True)
    if not texts:
        raise DataError("X is empty: there must be at least two texts")
    columns, weights = check_columns(y, len(texts)), check_sample_weight(sample_weight, len(texts))
    kept = np.array([any(column[row] is not None for column in columns.values()) for row in range(len(texts))])
    if weights is not None:
        kept &= weights > 0
    if not kept.any():
        raise DataError("no row has a target, which leaves nothing to learn from")
    rows = np.flatnonzero(kept)
    return (
        [texts[row] for row in rows],
        {name: [column[row] for row in rows] for name, column in columns.items()},
        None if weights is None else weights[rows],
    )


def split_rows(
    tasks: Sequence[TaskSpec], targets: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for validation: each pattern of missing targets, and of classes, in its share.

    A class that the draw would have taken from training whole stays there.
    """
    classified = [place for place, task in enumerate(tasks) if task.classes is not None]
    patterns = np.column_stack([~np.isnan(targets), np.nan_to_num(targets[:, classified], nan=-1.0)])
    groups = np.unique(patterns, axis=0, return_inverse=True)[1].reshape(-1)
    # Where patterns are rare, those of missing targets alone still come in their shares.
    if np.median(np.bincount(groups)) < 2 / fraction:
        groups = np.unique(~np.isnan(targets), axis=0, return_inverse=True)[1].reshape(-1)
    train, held = stratified_split(groups, fraction, seed)
    for place in classified:
        only = np.setdiff1d(targets[held, place], targets[train, place])
        back = held[np.isin(targets[held, place], only[~np.isnan(only)])]
        train, held = np.sort(np.concatenate([train, back])), np.setdiff1d(held, back)
    return train, held


def _labels(name: str, values: Sequence[Any]) -> np.ndarray:
    """The labels that are there.

    Raises:
        DataError: One is no label, or kinds are mixed; the message names the task.
    """
    present = [value for value in values if value is not None]
    rows = [row for row, value in enumerate(values) if value is not None]
    for row, value in zip(rows, present, strict=True):
        if not isinstance(value, (str, int, np.integer)) and not (isinstance(value, float) and value.is_integer()):
            raise DataError(
                f"the target of row {row} of the classification {name!r} must be an int or a str; found {value!r} "
                f"({type(value).__name__})"
            )
    try:
        return check_labels(present, len(present))
    except DataError as error:
        raise DataError(f"the classification {name!r}: {error}") from None


def _number(name: str, row: int, value: Any) -> float:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not math.isfinite(value):
        raise DataError(
            f"the target of row {row} of the regression {name!r} must be a finite number; found {value!r} "
            f"({type(value).__name__})"
        )
    return float(value)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def _is_real(values: Sequence[Any]) -> bool:
    return any(isinstance(value, (float, np.floating)) and not float(value).is_integer() for value in values)
