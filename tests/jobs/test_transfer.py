"""Recipes that pre-train, start from other models, and change their texts: from YAML to a trained model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import tidegate
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError, TidegateError
from tiny_reviews import rows, write_tiny

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
    resumed = jobs.train(recipe, out=tmp_path / "run", resume=True)  # at the rate that was found, not the recipe's
    assert (resumed.rate_search, resumed.test, resumed.epochs) == (run.rate_search, run.test, 1)


def test_a_run_without_a_finished_epoch_resumes_with_the_seed_that_was_drawn(tmp_path: Path) -> None:
    keys = ["output.baseline=false", "training.max_epochs=1", "training.random_state=null"]
    recipe = load_recipe(write_tiny(tmp_path), overrides=keys)
    run = jobs.train(recipe, out=tmp_path / "run")
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(run.folder / "recipe.yaml", killed)
    resumed = jobs.train(recipe, out=killed, resume=True)
    texts = [text for _, text in rows(30, 2)]
    wanted = tidegate.load(run.model).predict_proba(texts)
    np.testing.assert_array_equal(tidegate.load(resumed.model).predict_proba(texts), wanted)


def test_a_run_of_several_models_is_not_resumed_as_one(tmp_path: Path) -> None:
    recipe = load_recipe(write_tiny(tmp_path), overrides=["output.baseline=false", "training.max_epochs=1"])
    jobs.train(recipe, out=tmp_path / "one")
    jobs.train(recipe, out=tmp_path / "two", members=2)
    before = (tmp_path / "two" / "model.tg").read_bytes()
    with pytest.raises(TidegateError, match="the run to resume is of several models: give --members"):
        jobs.train(recipe, out=tmp_path / "two", resume=True)
    with pytest.raises(TidegateError, match="the run to resume is of one model: leave out --members"):
        jobs.train(recipe, out=tmp_path / "one", members=2, resume=True)
    with pytest.raises(TidegateError, match="the run to resume is of several models: give --members"):
        jobs.train(recipe, out=tmp_path / "two", members=2, snapshots=True, resume=True)
    assert (tmp_path / "two" / "model.tg").read_bytes() == before


def test_a_recipe_of_snapshots_is_trained_and_resumed(tmp_path: Path) -> None:
    keys = ["output.baseline=false", "training.max_epochs=4", "training.random_state=null"]
    recipe = load_recipe(write_tiny(tmp_path), overrides=keys)
    run = jobs.train(recipe, out=tmp_path / "run", members=2, snapshots=True)
    assert run.test is not None and run.test["accuracy"] > 0.9
    assert [model.best_epoch_ for model in tidegate.load(run.model).members_] == [2, 4]
    assert any("an ensemble of 2 snapshots: validation accuracy" in note for note in run.notes)
    resumed = jobs.train(recipe, out=tmp_path / "run", members=2, snapshots=True, resume=True)
    assert resumed.test == run.test
    with pytest.raises(TidegateError, match="the run to resume is of snapshots: give --members and --snapshots"):
        jobs.train(recipe, out=tmp_path / "run", members=2, resume=True)
    with pytest.raises(RecipeError, match="--snapshots says where the members of an ensemble come from"):
        jobs.train(recipe, out=tmp_path / "none", snapshots=True)
