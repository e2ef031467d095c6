"""The task contextual-text-classification from its recipe to a report, an evaluation and predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tidegate
from features.tiny_bert import write_tiny_bert
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError
from tidegate.jobs import evaluate, predict, train, validate
from tiny_reviews import write_tiny

TASK = "contextual-text-classification"
RECIPE = """\
task: contextual-text-classification
data: {train: train.csv, test: test.csv}
text: {encoder: bert, cache: states, max_tokens: 16, layer: 0}
model: {hidden_size: 8, dropout: 0, embedding_dropout: 0}
training: {learning_rate: 0.03, batch_size: 16, max_epochs: 6, patience: 6, random_state: 3, validation_fraction: 0.2}
output:
  baseline: true
  try: [a good great film, awful and dull]
"""


def test_a_run_keeps_its_states_and_leaves_a_model_that_needs_no_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    path = write_tiny(tmp_path, RECIPE)
    write_tiny_bert(tmp_path / "bert")
    assert validate(path).data["test"]
    run = train(load_recipe(path), out=tmp_path / "run", verbose=False)
    assert run.test is not None and run.test["accuracy"] > 0.75  # the encoder does not know 好 and 坏
    assert run.baseline is not None
    assert [item.label for item in run.predictions] == ["pos", "neg"]
    assert [item.suffix for item in (tmp_path / "states").iterdir()] == [".npy"]
    assert run.report is not None and "number of tokens, before truncation" in run.report.read_text(encoding="utf-8")
    kept = {item: item.stat().st_mtime_ns for item in (tmp_path / "states").iterdir()}
    again = train(load_recipe(tmp_path / "run" / "recipe.yaml"), out=tmp_path / "again", verbose=False)
    assert again.test == run.test
    assert {item: item.stat().st_mtime_ns for item in (tmp_path / "states").iterdir()} == kept
    (tmp_path / "bert").rename(tmp_path / "elsewhere")
    assert evaluate(run.model, str(tmp_path / "test.csv")).metrics["accuracy"] == pytest.approx(run.test["accuracy"])
    (said,) = next(predict(run.model, [["a good film"]]))
    model = tidegate.load(run.model)
    assert said.probabilities["pos"] == pytest.approx(float(model.predict_proba(["a good film"])[0, 1]), abs=1e-5)
    chances, counts = model.predict_counted(["a good film", "a good " * 20])
    assert counts.tolist() == [5, 42]
    np.testing.assert_array_equal(chances, model.predict_proba(["a good film", "a good " * 20]))


def test_an_encoder_that_is_not_there_is_named_before_the_data_are_read(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    recipe = load_recipe(write_tiny(tmp_path, RECIPE))
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DataError, match="bert: there is no such folder, and no such package is installed"):
        train(recipe, out=tmp_path / "run")


def test_keys_of_other_tasks_are_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, RECIPE)
    for override, message in (
        ("model.vectors=x.npz", "model.vectors: unknown key"),
        ("text.tokenizer=words", "text.tokenizer: unknown key"),
        ("text.max_tokens=2", "expected a number of at least 3"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(path, overrides=[override])
    (tmp_path / "more.csv").write_text("text\na film\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"data\.unlabelled has no effect: the task contextual-text-classification"):
        load_recipe(path, overrides=["data.unlabelled=more.csv"])
