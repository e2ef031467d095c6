from __future__ import annotations

import json
from pathlib import Path

import pytest

from test_cli import call
from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tidegate.jobs import augmentation
from tiny_reviews import rows, write_tiny


def test_the_first_texts_are_shown_with_what_becomes_of_them(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    keys = ["training.augment_delete=0.4", "text.max_tokens=null"]
    found = augmentation.preview(load_recipe(recipe, overrides=keys), count=3, epochs=4)
    assert [item.text for item in found] == [text for _, text in rows(80, 1)[:3]]
    for item in found:
        assert len(item.changed) == 4
        words = item.text.split()
        assert any(changed != item.text for changed in item.changed)
        assert all(
            len(changed.split()) <= len(words) and set(changed.split()) <= set(words) for changed in item.changed
        )
    options = [word for key in keys for word in ("--set", key)]
    stdout, _ = call("augment", recipe, *options, "--count", 3, "--epochs", 4, "--json")
    assert json.loads(stdout) == [vars(item) for item in found]
    lines = call("augment", recipe, *options, "--count", 1, "--epochs", 1)[0].splitlines()
    assert lines == [found[0].text, f"  > {found[0].changed[0]}"]


def test_a_recipe_that_changes_nothing_says_what_to_set(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, train=10)
    with pytest.raises(RecipeError, match=r"tiny\.yaml: the recipe changes no text\. Set for example"):
        augmentation.preview(load_recipe(recipe))
    with pytest.raises(RecipeError, match=r"augment_share=0\.5 has no effect"):
        augmentation.preview(load_recipe(recipe, overrides=["training.augment_share=0.5"]))
