"""Recipes that pre-train, start from other models, and change their texts: from YAML to a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest

import tidegate
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError
from tiny_reviews import write_tiny

SHORT = ["output.baseline=false", "output.report=false", "training.max_epochs=1"]


def test_a_recipe_pretrains_on_unlabelled_texts_and_the_next_starts_from_its_model(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, train=40)
    (tmp_path / "more.csv").write_text("text\nan unheardof film\nan unheardof plot\n", encoding="utf-8")
    keys = [*SHORT, "data.unlabelled=more.csv", "training.pretrain_epochs=1", "training.adapt_epochs=1"]
    first = jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "first")
    assert "unheardof" in tidegate.load(first.model).encoder_.vocabulary.index
    again = load_recipe(tmp_path / "first" / "recipe.yaml")
    assert again.data_path("unlabelled") == tmp_path / "more.csv"
    keys = [*SHORT, "training.init_from=first/model.tg", "training.unfreeze_every=1", "training.layer_rate_decay=0.4"]
    second = jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "second")
    assert tidegate.load(second.model).init_from == str(tmp_path / "first" / "model.tg")


def test_files_that_are_not_there_are_named_before_anything_is_read(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path)
    for key in ("data.unlabelled", "training.synonyms", "training.init_from"):
        with pytest.raises(
            RecipeError, match=rf"{key}: expected a file or folder, found none at .*trian\.csv.*Did you"
        ):
            load_recipe(recipe, overrides=[f"{key}=trian.csv"])


def test_unlabelled_texts_that_cannot_be_used(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, train=20)
    (tmp_path / "more.csv").write_text("body\na film\n", encoding="utf-8")
    keys = [*SHORT, "data.unlabelled=more.csv", "training.pretrain_epochs=1"]
    with pytest.raises(DataError, match=r"more\.csv:1: there is no column 'text'; found 'body'"):
        jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "run")
    (tmp_path / "more.csv").write_text("text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"more\.csv: there are no rows"):
        jobs.train(load_recipe(recipe, overrides=keys), out=tmp_path / "run")


def test_a_learning_rate_is_found_taken_and_drawn(tmp_path: Path) -> None:
    recipe = load_recipe(write_tiny(tmp_path), overrides=["output.baseline=false", "training.max_epochs=1"])
    run = jobs.train(recipe, out=tmp_path / "run", find_rate=True)
    assert run.rate_search is not None and len(run.rate_search["rates"]) > 10
    rate = load_recipe(tmp_path / "run" / "recipe.yaml").arguments["learning_rate"]
    assert rate == pytest.approx(run.rate_search["suggestion"], rel=0.1)
    assert any(f"finder suggests {rate:g}, which is taken (the recipe has 0.05)" in note for note in run.notes)
    assert "Loss by learning rate" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="--find-lr looks before a new run"):
        jobs.train(recipe, out=tmp_path / "run", find_rate=True, resume=True)
