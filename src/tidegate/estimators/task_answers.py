"""What a fitted model of several tasks says of texts, one network or several: answers a task, and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from tidegate.errors import DataError
from tidegate.estimators.base import check_sample_weight, check_texts
from tidegate.estimators.multitask_data import TaskSpec, check_columns, number_targets
from tidegate.estimators.multitask_scores import scores_by_task, split_outputs

__all__ = ["TaskAnswers"]


class TaskAnswers:
    """The methods of models of several tasks that need them fitted.

    What is one gives `_decoded`.

    Attributes:
        tasks_: The tasks, each with ``name``, ``kind`` and ``classes`` (None of a regression).
    """

    tasks_: list[TaskSpec]

    def _decoded(self, texts: list[str]) -> np.ndarray:
        """What is decoded of texts, ``[rows, W]``: the columns of all tasks side by side."""
        raise NotImplementedError

    def predict(self, X: Any) -> dict[str, np.ndarray]:
        """Task -> the most probable label, or the number, of each text, ``[rows]``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        outputs = self.predict_outputs(X)
        return {
            task.name: outputs[task.name] if task.classes is None else task.classes[outputs[task.name].argmax(axis=1)]
            for task in self.tasks_
        }

    def predict_proba(self, X: Any) -> dict[str, np.ndarray]:
        """Classification -> the probability of each class, ``[rows, classes]``, in the order of ``classes_``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        outputs = self.predict_outputs(X)
        return {task.name: outputs[task.name] for task in self.tasks_ if task.classes is not None}

    def predict_outputs(self, X: Any) -> dict[str, np.ndarray]:
        """Task -> probabilities of a classification, ``[rows, classes]``, or numbers of a regression, ``[rows]``.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X is not a column of texts.
        """
        check_is_fitted(self, "tasks_")
        return split_outputs(self.tasks_, self._decoded(check_texts(X, pairs=True)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The mean of the tasks' scores on the targets that there are: accuracy, and R2 of a regression."""
        scores = self.task_scores(X, y, sample_weight)
        return float(np.mean(list(scores.values())))

    def task_scores(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Of each task that y has targets of, the accuracy of a classification, or the R2 of a regression.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: X or y cannot be used, or a label is one that the task has not.
        """
        check_is_fitted(self, "tasks_")
        texts = check_texts(X, pairs=True)
        columns, weights = check_columns(y, len(texts)), check_sample_weight(sample_weight, len(texts))
        targets, outputs = number_targets(self.tasks_, columns), self._decoded(texts)
        scores = scores_by_task(self.tasks_, targets, outputs, weights)
        if not scores:
            raise DataError(f"y has no target of any of the tasks {', '.join(task.name for task in self.tasks_)}")
        return scores

    @property
    def classes_(self) -> dict[str, np.ndarray | None]:
        """The labels of each task.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self, "tasks_")
        return {task.name: task.classes for task in self.tasks_}
