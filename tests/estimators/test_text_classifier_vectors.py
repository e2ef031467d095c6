"""TextClassifier over word vectors from files: where they land, and when they learn."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate import TextClassifier
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError
from tidegate.estimators.loading import load
from tidegate.features.vector_writing import write_vectors
from tidegate.features.vectors import WordVectors
from tidegate.jobs import train
from tiny_reviews import BAD, FILLERS, GOOD, RECIPE, rows, write_tiny

WORDS = (*GOOD[:3], *BAD[:3], *FILLERS[:5])
NUMBERS = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)
X, Y = [text for _, text in rows(80, 1)], [label for label, _ in rows(80, 1)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "v.txt", WordVectors(WORDS, NUMBERS))


def make(**changes: Any) -> TextClassifier:
    arguments: dict[str, Any] = {
        "hidden_size": 8,
        "max_epochs": 3,
        "patience": 3,
        "batch_size": 16,
        "learning_rate": 0.02,
        "min_count": 1,
        "weight_decay": 0.1,
        "random_state": 0,
        "device": "cpu",
        "verbose": False,
    }
    return TextClassifier(**{**arguments, **changes})


def table(model: TextClassifier, words: tuple[str, ...] = WORDS) -> np.ndarray:
    weight = model.network_.embedding.weight.detach().numpy()
    return weight[[model.encoder_.vocabulary.index[word] for word in words]]


def test_frozen_vectors_stay_and_tuned_ones_begin_there(file: Path) -> None:
    frozen = make(vectors=file, tune_vectors_after=None).fit(X, Y)
    np.testing.assert_array_equal(table(frozen), NUMBERS)
    tuned = make(vectors=str(file), learning_rate=1e-4, weight_decay=0.0, max_epochs=1).fit(X, Y)
    change = np.abs(table(tuned) - NUMBERS).max()
    assert 1e-5 < change < 2e-3


def test_vectors_learn_from_the_named_epoch_on(file: Path) -> None:
    kept = {"vectors": file, "validation_fraction": 0}  # the last epoch is kept
    two, three = (make(**kept, tune_vectors_after=2, max_epochs=epochs).fit(X, Y) for epochs in (2, 3))
    np.testing.assert_array_equal(table(two), NUMBERS)
    assert np.abs(table(three) - NUMBERS).max() > 1e-3
    never = make(**kept, tune_vectors_after=None, max_epochs=2).fit(X, Y)
    np.testing.assert_array_equal(never.predict_proba(X), two.predict_proba(X))


def test_a_run_that_is_resumed_thaws_in_the_same_epoch(file: Path, tmp_path: Path) -> None:
    whole = make(vectors=file, tune_vectors_after=2, max_epochs=4, patience=4).fit(X, Y)
    make(vectors=file, tune_vectors_after=2, max_epochs=1, patience=4).fit(X, Y, run_folder=tmp_path / "run")
    rest = make(vectors=file, tune_vectors_after=2, max_epochs=4, patience=4)
    rest.fit(X, Y, run_folder=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(rest.predict_proba(X), whole.predict_proba(X))
    np.testing.assert_array_equal(table(rest), table(whole))


def test_two_files_lie_side_by_side_and_the_log_says_what_is_missing(file: Path, tmp_path: Path, caplog) -> None:
    second = write_vectors(tmp_path / "w.npz", WordVectors(WORDS[:4], NUMBERS[:4, :3] * 2))
    with caplog.at_level(logging.INFO, "tidegate"):
        model = make(vectors=[file, second], tune_vectors_after=None).fit(X, Y)
    assert model.network_.embedding.weight.shape[1] == 9
    np.testing.assert_array_equal(table(model, WORDS[:4]), np.hstack([NUMBERS[:4], NUMBERS[:4, :3] * 2]))
    tokens = model.encoder_.num_tokens - 1
    assert f"v.txt: {len(WORDS)} of {tokens} tokens have a vector, {tokens - len(WORDS)} begin at random" in caplog.text
    assert f"w.npz: 4 of {tokens} tokens have a vector, {tokens - 4} begin at random" in caplog.text


def test_a_saved_model_needs_no_vectors(file: Path, tmp_path: Path) -> None:
    model = make(vectors=[file]).fit(X, Y)
    model.save(tmp_path / "model.tg")
    file.unlink()
    np.testing.assert_array_equal(load(tmp_path / "model.tg").predict_proba(X), model.predict_proba(X))


def test_what_does_not_go_together_is_refused(file: Path) -> None:
    for changes, error, message in (
        ({"vectors": file, "embedding_size": 8}, DataError, r"embedding_size=8 numbers, found 6"),
        ({"tune_vectors_after": 2}, ValueError, "has no effect without vectors"),
        ({"vectors": file, "tune_vectors_after": -1}, ValueError, "whole number of at least 0, or None; found -1"),
        ({"vectors": file, "tune_vectors_after": True}, ValueError, "whole number of at least 0, or None; found True"),
        ({"vectors": file, "embedding_init": "cooccurrence"}, ValueError, "has no effect beside vectors"),
        ({"vectors": file.with_name("w.txt")}, DataError, r"Did you mean 'v.txt'\?"),
    ):
        with pytest.raises(error, match=message):
            make(**changes).fit(X, Y)
    assert make(vectors=file, embedding_size=6, max_epochs=1).fit(X, Y).network_.embedding.weight.shape[1] == 6


def test_a_recipe_names_vectors_relative_to_its_data(file: Path, tmp_path: Path) -> None:
    text = RECIPE.replace("embedding_size: 8", "vectors: v.txt, tune_vectors_after: null")
    recipe = load_recipe(write_tiny(tmp_path, text))
    assert recipe.arguments["vectors"] == [str(file.resolve())]
    run = train(recipe, out=tmp_path / "run")
    np.testing.assert_array_equal(table(load(run.model), GOOD[:2]), NUMBERS[:2])
    again = load_recipe(run.folder / "recipe.yaml")
    assert again.arguments["vectors"] == recipe.arguments["vectors"]
    assert again.arguments["tune_vectors_after"] is None
    with pytest.raises(RecipeError, match=r"tiny.yaml:\d+: model.vectors: expected a file .* Did you mean 'v.txt'\?"):
        load_recipe(write_tiny(tmp_path, text.replace("v.txt", "vv.txt")))
