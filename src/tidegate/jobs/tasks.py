"""The tasks that a recipe may name, and what the commands do for each; loaded when asked for."""

from __future__ import annotations

import importlib

from tidegate.errors import BundleError
from tidegate.jobs.run_steps import Task

__all__ = ["task_of", "task_of_kind"]

# Task of a recipe -> the module and the function that describe it.
_TASKS = {
    "text-classification": ("tidegate.jobs.classification", "classification_task"),
    "linear-text-classification": ("tidegate.jobs.linear", "linear_task"),
    "contextual-text-classification": ("tidegate.jobs.contextual", "contextual_task"),
    "sequence-tagging": ("tidegate.jobs.tagging", "tagging_task"),
    "text-regression": ("tidegate.jobs.numbers", "regression_task"),
    "multi-label-text-classification": ("tidegate.jobs.labels", "multi_label_task"),
    "multi-task-text": ("tidegate.jobs.multitask", "multitask_task"),
}
# Kind of a saved model -> its task, where they differ in name; all else are classifiers of texts.
_TASK_OF_KIND = {
    "sequence-tagger": "sequence-tagging",
    "multi-task-text": "multi-task-text",
    "text-regressor": "text-regression",
    "multi-label-text-classifier": "multi-label-text-classification",
}
# Kinds that have commands of their own.
_ELSEWHERE = {
    "language-model": "judge it by `tidegate language evaluate`, or name it as model.language_model in a recipe",
    "ranker": "use it by `tidegate search query --ranker` and `tidegate search evaluate --ranker`",
}


def task_of(name: str) -> Task:
    """What `train` and `validate` do for the task of a recipe."""
    module, function = _TASKS[name]
    return getattr(importlib.import_module(module), function)()


def task_of_kind(kind: str) -> Task:
    """What `evaluate` and `predict` do for a kind of saved model.

    Raises:
        BundleError: A model of this kind has commands of its own.
    """
    if kind in _ELSEWHERE:
        raise BundleError(f"a model of the kind {kind} labels no texts; {_ELSEWHERE[kind]}")
    return task_of(_TASK_OF_KIND.get(kind, "text-classification"))
