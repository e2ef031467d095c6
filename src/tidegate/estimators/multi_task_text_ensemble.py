"""Several models of several tasks as one, whose probabilities and numbers are averaged task by task."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tidegate.estimators.mean_ensemble import MeanEnsemble
from tidegate.estimators.multi_task_text_model import MultiTaskTextModel
from tidegate.estimators.multitask_data import check_rows, check_task_kinds, make_tasks, number_targets, split_rows
from tidegate.estimators.task_answers import TaskAnswers

__all__ = ["MultiTaskTextEnsemble"]


class MultiTaskTextEnsemble(TaskAnswers, MeanEnsemble):
    """Models of several tasks that differ in their seeds, or that one run passed through, averaged.

    Of each classification the mean probability counts, of each regression the mean number. All members learn from the
    same texts and are judged on the same ones held out.

    Args:
        estimator: What each member is; None is ``MultiTaskTextModel()``.
        members: How many.
        by: ``"seeds"``, or ``"snapshots"`` of one run, as of :class:`TextEnsemble`.
        random_state: The seed that the members' are derived from; None takes that of `estimator`.

    Attributes:
        members_: The fitted models.
        tasks_, classes_: As of :class:`MultiTaskTextModel`.
        validation_score_: The mean of the tasks' scores, accuracy and R2, of the mean of the members on the texts held
            out, or None.
        member_scores_: Those of each by itself.
        random_state_, timing_: As of :class:`TextEnsemble`.

    Example:
        >>> model = MultiTaskTextEnsemble(MultiTaskTextModel(max_epochs=5), members=3)
        >>> y = {"label": ["good", "bad", None], "rating": [4.5, None, 1.2]}
        >>> model = model.fit(texts, y)  # doctest: +SKIP
    """

    kind: ClassVar[str] = "multi-task-text-ensemble"
    made_of: ClassVar[tuple[str, ...]] = ("multi-task-text",)
    figure: str = "mean of accuracy and R2"

    def _decoded(self, texts: list[str]) -> np.ndarray:
        return self._mean(lambda model: model._decoded(texts))

    # --- parts of the fit, and the bundle

    def _default(self) -> MultiTaskTextModel:
        return MultiTaskTextModel()

    def _hold_out(
        self, member: Any, data: tuple[Any, Any, Any], seed: int, options: dict[str, Any]
    ) -> tuple[tuple[Any, Any, Any], tuple[Any, ...] | None, dict[str, Any]]:
        texts, columns, weights = check_rows(*data)
        tasks = make_tasks(check_task_kinds(member.tasks, columns), columns)
        train, places = split_rows(tasks, number_targets(tasks, columns), member.validation_fraction, seed)
        if not len(places):
            return data, None, options

        def part(rows: np.ndarray) -> tuple[Any, Any, Any]:
            chosen = {name: [column[row] for row in rows] for name, column in columns.items()}
            return [texts[row] for row in rows], chosen, None if weights is None else weights[rows]

        held = part(places)
        return part(train), held[:2] if weights is None else held, options

    def _answers(self, model: Any) -> list[Any]:
        # As the member's own bundle has them.
        own = [[task.name] if task.classes is None else task.classes.tolist() for task in model.tasks_]
        return [label for labels in own for label in labels]

    def _take(self, members: list[Any]) -> None:
        super()._take(members)
        self.tasks_ = members[0].tasks_
        named = [[(task.name, task.kind) for task in model.tasks_] for model in members]
        if any(tasks != named[0] for tasks in named):
            raise ValueError(f"members of different tasks: {named[0]} and others")
