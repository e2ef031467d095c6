"""The sections of each task and the signature of its estimator say the same."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import TypeAdapter

import tidegate
from tidegate.jobs.tasks import task_of
from tidegate.schema.tasks import SECTIONS, TASKS, section_keys, section_type

ESTIMATORS = {
    "text-classification": "TextClassifier",
    "linear-text-classification": "LinearTextClassifier",
    "contextual-text-classification": "ContextualTextClassifier",
    "sequence-tagging": "SequenceTagger",
    "text-regression": "TextRegressor",
    "multi-label-text-classification": "MultiLabelTextClassifier",
    "multi-task-text": "MultiTaskTextModel",
}
each_task = pytest.mark.parametrize("task", TASKS)


def parameters(task: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(getattr(tidegate, ESTIMATORS[task])).parameters)


def base_types(annotation: Any) -> set[type]:
    if get_origin(annotation) is Annotated:
        return base_types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*(base_types(part) for part in get_args(annotation)))
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    return {NoneType if annotation is None else annotation}


def test_every_task_has_the_same_sections_and_its_estimator() -> None:
    assert set(TASKS) == set(ESTIMATORS)
    for task, whole in TASKS.items():
        assert list(whole.model_fields) == ["task", "data", *SECTIONS, "output"]
        assert type(task_of(task).make(**needed(task))).__name__ == ESTIMATORS[task]


def needed(task: str) -> dict[str, Any]:
    return {"tasks": {"label": "classification"}} if task == "multi-task-text" else {}


@each_task
def test_the_sections_hold_exactly_the_arguments_of_the_estimator(task: str) -> None:
    keys = [name for section in SECTIONS for name in section_keys(section, task)]
    expected = list(parameters(task))
    if task == "multi-task-text":  # `tasks` stands first in Python, and in the second section
        keys, expected = sorted(keys), sorted(expected)
    assert keys == expected


@each_task
def test_the_defaults_of_the_estimator_are_legal_in_a_recipe_and_the_recipe_has_none(task: str) -> None:
    defaults = {name: parameter.default for name, parameter in parameters(task).items()}
    for section in SECTIONS:
        chosen = {name: defaults[name] for name in section_keys(section, task) if name not in needed(task)}
        chosen = {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}
        adapter = TypeAdapter(section_type(section, task))
        assert adapter.validate_python(chosen) == chosen
        assert adapter.validate_python({}) == {}


def test_the_types_of_the_sections_are_those_of_the_estimator() -> None:
    expected = get_type_hints(tidegate.TextClassifier.__init__)
    for section in SECTIONS:
        for name, annotation in get_type_hints(section_type(section), include_extras=True).items():
            if not name.startswith("__") and name != "vectors":  # of which one text becomes a list of one
                # random_state also takes scikit-learn's generators, which no recipe can hold.
                legal = base_types(expected[name])
                assert legal == {Any} or base_types(annotation) == legal, f"{section}.{name}"
