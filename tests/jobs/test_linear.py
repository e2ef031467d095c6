"""The task linear-text-classification from its recipe to a report, an evaluation and predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tidegate.jobs import evaluate, train, validate
from tiny_reviews import write_tiny

RECIPE = """\
task: linear-text-classification
data: {train: train.csv, test: test.csv}
text: {ngram_range: [1, 1], weighting: counts}
model: {classifier: svm}
training: {random_state: 3, validation_fraction: 0.2}
output:
  baseline: true
  try: [a lovely great film, dull and bad]
"""
TASK = "linear-text-classification"


def test_a_run_leaves_a_model_a_report_and_a_recipe_that_repeats_it(tmp_path: Path) -> None:
    recipe = load_recipe(write_tiny(tmp_path, RECIPE))
    run = train(recipe, out=tmp_path / "run", verbose=False)
    assert run.test is not None and run.test["accuracy"] > 0.9
    assert run.baseline is not None
    assert [item.label for item in run.predictions] == ["pos", "neg"]
    assert run.validation_accuracy is not None and run.epochs == 0
    assert any(note.startswith("what speaks most for neg: ") and "'bad'" in note for note in run.notes)
    assert run.report is not None and "what speaks most" in run.report.read_text(encoding="utf-8")
    again = train(load_recipe(tmp_path / "run" / "recipe.yaml"), out=tmp_path / "again")
    assert again.test == run.test
    judged = evaluate(run.model, str(tmp_path / "test.csv"))
    assert judged.metrics["accuracy"] == run.test["accuracy"]
    assert validate(tmp_path / "tiny.yaml").data["test"]


def test_errors_name_the_keys_of_the_task(tmp_path: Path) -> None:
    for old, new, message in (
        ("classifier: svm", "clasifier: svm", "model.clasifier: unknown key. Did you mean 'classifier'"),
        ("classifier: svm", "classifier: svn", "expected logistic, naive-bayes, svm or nbsvm, found the text 'svn'"),
        ("ngram_range: [1, 1]", "ngram_range: [1]", "tiny.yaml:3: text.ngram_range"),
        ("ngram_range: [1, 1]", "max_tokens: 9", "text.max_tokens: unknown key"),
        (TASK, "linear-text-clasification", "Did you mean 'linear-text-classification'"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(write_tiny(tmp_path, RECIPE.replace(old, new)))
        assert message in str(caught.value)


def test_the_command_line_trains_it(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, RECIPE)
    result = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "run"), "--quiet"])
    assert result.exit_code == 0, result.output
    assert "fitted, validation accuracy" in result.output and "epochs" not in result.output
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "run" / "model.tg"), "--json"], input="a great film\n")
    assert json.loads(said.stdout)["label"] == "pos"
