from __future__ import annotations

from typing import get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from tidegate.config import load_recipe, shipped_recipes
from tidegate.estimators.sequence_tagger import SequenceTagger
from tidegate.schema.tasks import SECTIONS, section_type

TASK = "sequence-tagging"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_refuses_what_it_cannot_be(section: str):
    for name in get_type_hints(section_type(section, TASK)):
        if not name.startswith("__"):
            with pytest.raises(ValidationError):
                TypeAdapter(section_type(section, TASK)).validate_python({name: {"no": "such value"}})


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("tagging_")])
def test_the_recipes_that_ship_are_valid(name: str):
    recipe = load_recipe(name, check_files=False)
    assert recipe.task == TASK
    assert set(SequenceTagger(**recipe.arguments).get_params()) >= set(recipe.arguments)
    assert recipe.path.read_text(encoding="utf-8").count(f"tidegate train {name}") == 1
