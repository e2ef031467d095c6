from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from tidegate.config import SECTIONS, TASKS, load_recipe, section_keys, shipped_recipes
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.schema.tagging import TAGGING_MODELS

TASK = "sequence-tagging"


def test_the_sections_hold_exactly_the_arguments_of_the_estimator_in_its_order():
    parameters = list(inspect.signature(SequenceTagger).parameters)
    assert [name for section in SECTIONS for name in section_keys(section, TASK)] == parameters


def test_the_defaults_of_the_estimator_are_legal_in_a_recipe():
    defaults = {name: parameter.default for name, parameter in inspect.signature(SequenceTagger).parameters.items()}
    for section in SECTIONS:
        chosen = {name: defaults[name] for name in section_keys(section, TASK)}
        assert TypeAdapter(TAGGING_MODELS[section]).validate_python(chosen) == chosen


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_refuses_what_it_cannot_be(section: str):
    for name in get_type_hints(TAGGING_MODELS[section]):
        if not name.startswith("__"):
            with pytest.raises(ValidationError):
                TypeAdapter(TAGGING_MODELS[section]).validate_python({name: {"no": "such value"}})


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("tagging_")])
def test_the_recipes_that_ship_are_valid(name: str):
    recipe = load_recipe(name, check_files=False)
    assert recipe.task == TASK
    assert set(SequenceTagger(**recipe.arguments).get_params()) >= set(recipe.arguments)
    assert recipe.path.read_text(encoding="utf-8").count(f"tidegate train {name}") == 1


def test_every_task_has_the_same_sections():
    assert {tuple(models) for _, models in TASKS.values()} == {tuple(TAGGING_MODELS)}
