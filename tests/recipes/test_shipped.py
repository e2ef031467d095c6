from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.config import load_recipe, shipped_recipes
from tidegate.errors import RecipeError, TidegateError
from tidegate.recipes.shipped import copy_recipe, list_recipes


def test_the_list_gives_purpose_and_command():
    found = {item.name: item for item in list_recipes()}
    assert list(found) == sorted(shipped_recipes())
    assert found["sentiment_en"].command == "tidegate train sentiment_en"
    assert found["imdb"].command == "tidegate train imdb --data-dir FOLDER"
    assert found["sentiment_en"].purpose.startswith("Sentiment of English film reviews")


def test_a_copy_is_the_same_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert copy_recipe("sentiment_en") == Path("sentiment_en.yaml")
    assert copy_recipe("sentiment_zh.yaml", tmp_path / "mine.yaml") == tmp_path / "mine.yaml"
    assert Path("sentiment_en.yaml").read_bytes() == shipped_recipes()["sentiment_en"].read_bytes()
    assert load_recipe("mine.yaml").arguments == load_recipe("sentiment_zh").arguments


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path):
    (tmp_path / "sentiment_en.yaml").write_text("mine")
    with pytest.raises(TidegateError, match=r"sentiment_en\.yaml: there is a file of this name"):
        copy_recipe("sentiment_en", tmp_path)
    assert (tmp_path / "sentiment_en.yaml").read_text() == "mine"
    with pytest.raises(TidegateError, match="could not be written: No such file or directory"):
        copy_recipe("sentiment_en", tmp_path / "none" / "a.yaml")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(RecipeError, match=r"Did you mean 'sentiment_en'\?"):
        copy_recipe("sentiment_eng")
