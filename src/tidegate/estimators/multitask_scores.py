"""How several tasks are judged together: each by a figure of its own kind, all by the mean of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from tidegate.estimators.multitask_data import TaskSpec
from tidegate.reporting.scores import class_score, number_score
from tidegate.reporting.task_scores import MAIN_FIGURES, TASK_FIGURES, task_figure, task_monitors

__all__ = ["monitors_of", "scores_by_task", "split_outputs", "validation_score"]

Score = Callable[[np.ndarray, np.ndarray, "np.ndarray | None"], float]
_BY_NETWORK = ("loss", "accuracy", "mae", "mse")  # which the network adds up row by row


def monitors_of(tasks: Sequence[TaskSpec]) -> tuple[str, ...]:
    """What may choose the epoch, see :func:`~tidegate.reporting.task_scores.task_monitors`."""
    return task_monitors({task.name: task.kind for task in tasks})


def validation_score(tasks: Sequence[TaskSpec], monitor: str) -> tuple[str, Score | None]:
    """The name of a monitor in the history, and what measures it from all rows; None where the network does so."""
    if monitor == "loss":
        return monitor, None
    if monitor == "mean":
        return monitor, lambda targets, outputs, weights: _mean(scores_by_task(tasks, targets, outputs, weights))
    name = task_figure({task.name: task.kind for task in tasks}, monitor)
    for place, task in enumerate(tasks):
        for figure in TASK_FIGURES[task.kind]:
            if name == f"{task.name}_{figure}":
                return name, None if figure in _BY_NETWORK else partial(_figure, tasks, place, figure)
    raise ValueError(f"monitor={monitor!r} is none of {', '.join(monitors_of(tasks))}")


def scores_by_task(
    tasks: Sequence[TaskSpec], targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    """The main figure of each task of which there are targets.

    Args:
        tasks: In the order of the columns.
        targets: ``[rows, T]``, NaN where there are none.
        outputs: ``[rows, W]``, what the network decodes.
        weights: ``[rows]``, or None for ones.
    """
    return {
        task.name: _figure(tasks, place, MAIN_FIGURES[task.kind], targets, outputs, weights)
        for place, task in enumerate(tasks)
        if not np.isnan(targets[:, place]).all()
    }


def split_outputs(tasks: Sequence[TaskSpec], outputs: np.ndarray) -> dict[str, np.ndarray]:
    """What the network decodes, ``[rows, W]``, by task: probabilities ``[rows, C]``, or numbers ``[rows]``."""
    columns = np.split(outputs, np.cumsum([task.width for task in tasks])[:-1], axis=1)
    return {
        task.name: column[:, 0] if task.classes is None else column for task, column in zip(tasks, columns, strict=True)
    }


def _figure(
    tasks: Sequence[TaskSpec],
    place: int,
    figure: str,
    targets: np.ndarray,
    outputs: np.ndarray,
    weights: np.ndarray | None,
) -> float:
    """A figure of the task in a place, over the rows that have its target."""
    task = tasks[place]
    rows = np.flatnonzero(~np.isnan(targets[:, place]))
    if not len(rows):
        return float("nan")
    truth, found = targets[rows, place], split_outputs(tasks, outputs)[task.name][rows]
    own = None if weights is None else weights[rows]
    if task.classes is None:
        return number_score(figure, truth, found, own)
    return class_score(figure, truth.astype(np.int64), found, own)


def _mean(scores: Mapping[str, float]) -> float:
    return float(np.mean(list(scores.values()))) if scores else float("nan")
