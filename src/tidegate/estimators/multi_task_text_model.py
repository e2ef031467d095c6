"""MultiTaskTextModel: several classifications and regressions of texts over one encoder, in one fit and one file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tidegate.deploy.bundle import Bundle
from tidegate.errors import DataError
from tidegate.estimators.arguments import arguments_of
from tidegate.estimators.base import check_choice
from tidegate.estimators.multitask_data import (
    TaskSpec,
    check_rows,
    check_task_kinds,
    check_task_weights,
    make_tasks,
    number_targets,
    split_rows,
)
from tidegate.estimators.multitask_scores import monitors_of, validation_score
from tidegate.estimators.neural import FitPlan
from tidegate.estimators.task_answers import TaskAnswers
from tidegate.estimators.teaching import TEACHING
from tidegate.estimators.text_classifier import TextClassifier
from tidegate.estimators.text_learning import TextLearning
from tidegate.estimators.text_network import NETWORK, Rows, TextNetworkEstimator
from tidegate.estimators.warm_start import goes_on
from tidegate.estimators.word_reading import CHARACTERS
from tidegate.heads.multitask import MultiTaskNetwork, TaskHead
from tidegate.heads.regress import REGRESSION_LOSSES
from tidegate.training.multitask import TaskBatches, sampling_shares

if TYPE_CHECKING:
    from tidegate.training.fit import BatchSource

__all__ = ["UNCERTAINTY", "MultiTaskTextModel"]

# Arguments of the classifier that say something of the classes of its one task.
OF_ONE_TASK = ("class_weight", "threshold", "calibrate", *TEACHING)
UNCERTAINTY = "uncertainty"  # of `task_weights`: they are learned
_MODEL = (*NETWORK, *CHARACTERS, "label_smoothing", "focal_gamma", "regression_loss")


class MultiTaskTextModel(TaskAnswers, TextLearning, TextNetworkEstimator):
    """Several tasks learned together: one encoder of texts, and over it a head a task (Caruana 1997).

    Each task is a classification or a regression. A text may have targets of all tasks or of some: what is missing
    (None or NaN) adds nothing to the loss, so that data sets of different tasks can be learned from together
    (:func:`~tidegate.estimators.multitask_data.join_data_sets`). A text's loss is the weighted sum of the losses of its
    targets: cross-entropy in nats, and the error of a regression in units of its targets' spread.

    ``y`` of :meth:`fit` maps tasks to targets, one a text, or is a frame of them; None or NaN where a text has none.
    Texts without any target are left out.

    Args:
        tasks: Of each task ``"classification"`` or ``"regression"``; None takes a column of y for a regression where
            its targets are numbers and not all whole.
        regression_loss: ``"squared"`` error, ``"absolute"`` error, or ``"huber"``.
        task_weights: What the losses of each task are multiplied by, where not 1; or ``"uncertainty"``, which learns a
            weight a task with the network (Kendall et al. 2018).
        task_sampling: What a batch holds. ``"joint"``: any rows, with all targets that they have, each row once an
            epoch. Otherwise the targets of one task, the tasks in shares that are ``"proportional"`` to their targets,
            to the ``"square-root"`` of them, ``"uniform"``, or by ``"temperature"``; an epoch then has as many batches
            as would show each target once.
        sampling_temperature: tau, with which the shares are as the number of targets to the power 1 / tau.
        label_smoothing: Of the classifications, as `focal_gamma`.
        monitor: What chooses the epoch on validation data: the ``"mean"`` of the tasks' main figures, which are the
            accuracy of a classification and the R2 of a regression; a task, as ``"label"``, for its own main figure;
            another one of a task, as ``"label_macro_f1"`` or ``"rating_mae"``; or ``"loss"``.
        validation_fraction: Share of the rows set aside when `fit` is given no ``validation_data``, with each pattern
            of missing targets in its share; 0 sets nothing aside, and the last epoch is kept.
        tokenizer, lowercase, strip_html, normalization, max_tokens, truncation, max_vocabulary, min_count: How a text
            becomes tokens, as of :class:`~tidegate.TextClassifier`, whose arguments all further ones are as well.

    Attributes:
        tasks_: The tasks, each with ``name``, ``kind`` and ``classes`` (None of a regression).
        classes_: Task -> labels in the order of the columns of ``predict_proba``; None of a regression.
        encoder_: The fitted :class:`~tidegate.data.encoder.TextEncoder`.
        network_: The fitted ``torch.nn.Module``.
        history_: One dict an epoch: epoch, train_loss, validation_loss, what `monitor` names, of each task
            validation_TASK_loss and validation_TASK_accuracy, or validation_TASK_mae and validation_TASK_mse; seconds.
        best_epoch_: The epoch whose weights are kept, counted from 1.
        n_truncated_: Training texts that were longer than `max_tokens`.
        random_state_: The seed in use.
        timing_: Seconds spent on ``encode`` and ``train``.

    Example:
        >>> y = {"label": ["good", "bad", None], "rating": [4.5, None, 1.2]}  # doctest: +SKIP
        >>> model = MultiTaskTextModel().fit(texts, y)  # doctest: +SKIP
        >>> model.predict(["not bad at all"])  # doctest: +SKIP
        {'label': array(['good'], dtype='<U4'), 'rating': array([3.1])}
    """

    kind: ClassVar[str] = "multi-task-text"
    tasks_: list[TaskSpec]

    @arguments_of(TextClassifier, without=OF_ONE_TASK)
    def __init__(
        self,
        *,
        tasks: Any = None,
        regression_loss: str = "squared",
        task_weights: Any = None,
        task_sampling: str = "joint",
        sampling_temperature: float | None = None,
        monitor: str = "mean",
        **arguments: Any,
    ) -> None:
        given = {"tasks": tasks, "regression_loss": regression_loss, "task_weights": task_weights, "monitor": monitor}
        sampling = {"task_sampling": task_sampling, "sampling_temperature": sampling_temperature}
        self._store({**arguments, **given, **sampling})

    @property
    def monitors(self) -> tuple[str, ...]:
        """What `monitor` may be, as far as it is known before there are tasks."""
        return ("mean", "loss", self.monitor)

    def _learn(
        self, plan: FitPlan, X: Any, y: Any, sample_weight: Any, validation_data: tuple[Any, ...] | None, **options: Any
    ) -> None:
        texts, columns, weights = check_rows(X, y, sample_weight)
        tasks = self._tasks_in(columns)
        targets = number_targets(tasks, columns)
        plan = self._plan_of(tasks, plan)
        heads = self._heads(tasks, targets)
        self._fit_rows(
            plan,
            Rows(texts, targets, weights),
            None if validation_data is None else self._held(validation_data, tasks),
            split=lambda seed: split_rows(tasks, targets, self.validation_fraction, seed),
            build=lambda num_tokens, size, **words: self._build(num_tokens, heads, size, **words),
            fitted={"tasks_": tasks},
            **options,
        )

    def _tasks_in(self, columns: Mapping[str, Sequence[Any]]) -> list[TaskSpec]:
        """The tasks of y; those of the last fit, of which y may have some alone, where `fit` goes on from it."""
        if not goes_on(self):
            return make_tasks(check_task_kinds(self.tasks, columns), columns)
        names = [task.name for task in self.tasks_]
        if new := [name for name in columns if name not in names]:
            raise DataError(
                f"warm_start=True goes on with the tasks of the last fit ({', '.join(names)}), and y has {new[0]!r}; "
                "leave it out, or fit a new estimator on all of them"
            )
        return self.tasks_

    def _plan_of(self, tasks: Sequence[TaskSpec], plan: FitPlan) -> FitPlan:
        """Check the arguments that speak of tasks; the plan, with the metric that `monitor` stands for."""
        check_choice("monitor", self.monitor, monitors_of(tasks))
        check_choice("regression_loss", self.regression_loss, REGRESSION_LOSSES)
        if self.regression_loss != "squared" and all(task.classes is not None for task in tasks):
            raise ValueError(f"regression_loss={self.regression_loss!r} has no effect: no task is a regression")
        if self.task_weights != UNCERTAINTY:
            check_task_weights(self.task_weights, [task.name for task in tasks], UNCERTAINTY)
        if self.task_sampling != "joint" or self.sampling_temperature is not None:
            sampling_shares([1] * len(tasks), self.task_sampling, self.sampling_temperature)
        monitor, score = validation_score(tasks, self.monitor)
        return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, monitor=monitor, score=score))

    def _held(self, validation_data: tuple[Any, ...], tasks: Sequence[TaskSpec]) -> Rows:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise DataError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *rest = validation_data
        texts, columns, weights = check_rows(X, y, rest[0] if rest else None)
        targets = number_targets(tasks, columns, "validation_data y")
        for place, task in enumerate(tasks):
            if np.isnan(targets[:, place]).all() and self.monitor.startswith((task.name, f"{task.name}_")):
                raise DataError(
                    f"monitor={self.monitor!r}, and validation_data has no target of the task {task.name!r}"
                )
        return Rows(texts, targets, weights)

    @property
    def task_weights_(self) -> dict[str, float]:
        """What the loss of each task is multiplied by: as given, or as it was learned.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self, "tasks_")
        return self.network_.head.task_weights()

    def _decoded(self, texts: list[str]) -> np.ndarray:
        return self._predict_texts(texts, (sum(task.width for task in self.tasks_),))

    def _training_batches(
        self, ids: Sequence[np.ndarray], targets: np.ndarray, weights: np.ndarray | None, **options: Any
    ) -> BatchSource:
        if self.task_sampling == "joint":
            return super()._training_batches(ids, targets, weights, **options)
        temperature = None if self.sampling_temperature is None else float(self.sampling_temperature)
        return TaskBatches(ids, targets, weights, sampling=self.task_sampling, temperature=temperature, **options)

    def _heads(self, tasks: Sequence[TaskSpec], targets: np.ndarray) -> list[TaskHead]:
        given = {} if self.task_weights in (None, UNCERTAINTY) else dict(self.task_weights)
        heads = []
        for place, task in enumerate(tasks):
            weight = float(given.get(task.name, 1.0))
            known = targets[~np.isnan(targets[:, place]), place]
            # Where a bundle is loaded, or a fit goes on, the weights bring mean and scale.
            given_spread = task.classes is None and len(known) > 0
            spread = {"mean": float(known.mean()), "scale": float(known.std())} if given_spread else {}
            heads.append(TaskHead(task.name, task.num_classes, weight, **spread))
        return heads

    def _describe(self) -> dict[str, Any]:
        weights = self.task_weights_
        # Of a regression the only column is its own, and is called like it.
        labels = [[task.name] if task.classes is None else task.classes.tolist() for task in self.tasks_]
        tasks = [
            {"name": task.name, "kind": task.kind, "outputs": task.width, "weight": weights[task.name]}
            for task in self.tasks_
        ]
        return {
            "tokenizer": self._reading_state(),
            "labels": [label for own in labels for label in own],
            "metrics": {"n_truncated": self.n_truncated_, "tasks": tasks},
        }

    def _restore(self, bundle: Bundle) -> nn.Module:
        words = self._restore_reading(bundle.tokenizer)
        labels, tasks = iter(bundle.labels), bundle.metrics["tasks"]
        self.tasks_ = []
        for task in tasks:
            own = np.array([next(labels) for _ in range(task["outputs"])])
            self.tasks_.append(TaskSpec(task["name"], own if task["kind"] == "classification" else None))
        self.n_truncated_ = bundle.metrics["n_truncated"]
        size, heads = (
            bundle.weights["embedding.weight"].shape[1],
            self._heads(self.tasks_, np.full((1, len(tasks)), np.nan)),
        )
        return self._build(self.encoder_.num_tokens, heads, size, **words)

    def _build(self, num_tokens: int, heads: Sequence[TaskHead], embedding_size: int, **words: Any) -> MultiTaskNetwork:
        options = {"embedding_size": embedding_size, **words, **self._arguments(_MODEL)}
        return MultiTaskNetwork(num_tokens, heads, learn_weights=self.task_weights == UNCERTAINTY, **options)
