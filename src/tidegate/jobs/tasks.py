"""The tasks that a recipe may name, and what the commands do for each; loaded when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from tidegate.config import Recipe
from tidegate.errors import BundleError
from tidegate.jobs.splits import Splits, fit_texts

__all__ = ["Task", "Trained", "estimator", "task_of", "task_of_kind"]


@dataclass(frozen=True)
class Trained:
    """A model that was just trained, as its test and its baseline see it.

    Attributes:
        recipe, model, splits: What was trained, and on what.
        test: The test part.
        folder: The run's.
        timing: Seconds of each step, to which they add.
        notes: Statements for the user, to which they add.
    """

    recipe: Recipe
    model: Any
    splits: Splits[Any]
    test: Any
    folder: Path
    timing: dict[str, float]
    notes: list[str]


@dataclass(frozen=True)
class Task:
    """What differs between the runs of one task and another.

    Attributes:
        unit: What examples are called.
        make: The estimator, by its arguments.
        read: Recipe -> the parts of the data.
        notes: The parts -> statements on them.
        facts: The class of what the report is told, a ``RunFacts``.
        test: ``Trained`` -> of the facts those that concern the test part: ``test``, the metrics, and others; in
            ``token_lengths`` the lengths of its texts.
        evaluate: ``evaluate(model, data, columns, **reading)`` -> metrics; ``columns`` are the text, label, split and
            part that the user named, or None for each.
        predict: ``predict(model, texts)`` -> one prediction a text, with ``as_json()``, ``as_line()`` and
            ``as_example()``.
        first_rows: Recipe -> what was read of each data file, which shows that it can be; without torch.
        baseline: ``baseline(trained, tokenizer)`` -> the metrics of a simple model on the test part, if there is one.
        describe: ``describe(model, splits)`` -> the facts that concern all parts, as ``class_counts``.
        say: ``say(model, token_lengths)`` -> statements on what was trained.
        fit: ``fit(model, parts, run_folder=..., resume=...)``, or for a trial of a search ``callbacks=...``.
        monitor: From an estimator to the validation figure by which the trials of a search are compared: what its
            history has as ``validation_NAME``, or it itself as ``validation_NAME_`` where it learns in no epochs.
        ensemble: ``ensemble(estimator=..., members=..., by=...)`` -> several of an estimator as one, if there is such.
        alone: Why there is none.
    """

    unit: str
    make: Callable[..., Any]
    read: Callable[[Recipe], Splits[Any]]
    notes: Callable[[Any], list[str]]
    facts: Callable[..., Any]
    test: Callable[[Trained], dict[str, Any]]
    evaluate: Callable[..., dict[str, Any]]
    predict: Callable[[Any, list[str]], list[Any]]
    first_rows: Callable[[Recipe], dict[str, str]]
    baseline: Callable[[Trained, str], dict[str, Any]] | None = None
    describe: Callable[[Any, Any], dict[str, Any]] = lambda model, splits: {}
    say: Callable[[Any, dict[str, list[int]]], Sequence[str]] = lambda model, lengths: ()
    fit: Callable[..., None] = fit_texts
    monitor: Callable[[Any], str] = attrgetter("monitor")
    ensemble: Callable[..., Any] | None = None
    alone: str = ""


def estimator(name: str) -> Callable[..., Any]:
    """What makes the public estimator of a name, which is imported only then."""

    def make(**arguments: Any) -> Any:
        import tidegate

        return getattr(tidegate, name)(**arguments)

    return make


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
    "sequence-tagger-ensemble": "sequence-tagging",
    "multi-task-text": "multi-task-text",
    "multi-task-text-ensemble": "multi-task-text",
    "text-regressor": "text-regression",
    "text-regressor-ensemble": "text-regression",
    "multi-label-text-classifier": "multi-label-text-classification",
    "multi-label-text-ensemble": "multi-label-text-classification",
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
