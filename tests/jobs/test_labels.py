"""Recipes of several labels a text: from YAML and a column with a separator to a trained, judged and used model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError
from tidegate.estimators.multi_label_text_classifier import MultiLabelTextClassifier
from tidegate.reporting.label_metrics import label_metrics
from tiny_kinds import RECIPE, kinds, write_kinds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> jobs.Training:
    folder = tmp_path_factory.mktemp("kinds")
    return jobs.train(load_recipe(write_kinds(folder)), out=folder / "run")


def test_a_run_leaves_model_metrics_report_and_predictions(run: jobs.Training) -> None:
    model = tidegate.load(run.model)
    assert isinstance(model, MultiLabelTextClassifier)
    assert model.classes_.tolist() == ["animal", "colour", "motion"]
    texts, sets = zip(*kinds(40, 2), strict=True)
    targets = np.array([[name in labels for name in model.classes_] for labels in sets], dtype=float)
    expected = label_metrics(targets, model.predict_proba(list(texts)), model.classes_.tolist(), model.threshold_)
    assert run.test is not None and run.baseline is not None
    for name, value in expected.items():
        assert run.test[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert run.test["micro_f1"] > 0.7
    assert run.test["temperature"] == model.calibration_["temperature"] != 1
    assert run.test["uncalibrated"]["log_loss"] != run.test["log_loss"]
    assert run.baseline["micro_f1"] > 0.5 and "for each label" in run.baseline["name"]
    assert [item.labels for item in run.predictions] == model.predict_labels(["a red dog", ""])
    record = json.loads((run.folder / "metrics.json").read_text("utf-8"))
    assert record["class_counts"]["test"] == {
        name: sum(name in labels for labels in sets) for name in record["class_counts"]["test"]
    }
    page = (run.folder / "report.html").read_text("utf-8")
    for words in (
        "Tiny kinds",
        "micro F1 on the test set",
        "Test set by label",
        "Before the temperature of",
        "tuned on",
    ):
        assert words in page, words
    assert any("a temperature of" in note for note in run.notes)
    assert load_recipe(run.folder / "recipe.yaml").arguments["monitor"] == "micro_f1"


def test_evaluate_and_predict_on_the_command_line(run: jobs.Training, tmp_path: Path) -> None:
    cli = CliRunner()
    test = str(run.folder.parent / "test.csv")
    command = ["evaluate", str(run.model), test, "--label", "kinds", "--label-separator", "|"]
    said = cli.invoke(app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    assert run.test is not None
    found = json.loads(said.stdout)["metrics"]
    assert (found["micro_f1"], found["temperature"]) == pytest.approx((run.test["micro_f1"], run.test["temperature"]))
    table = cli.invoke(app, command).stdout
    assert f"micro F1 {run.test['micro_f1']:.4f}" in table and "motion" in table
    texts = tmp_path / "texts.txt"
    texts.write_text("a red dog\nof the\n", encoding="utf-8")
    model = tidegate.load(run.model)
    lines = cli.invoke(app, ["predict", str(run.model), str(texts)]).stdout.splitlines()
    sets = model.predict_labels(["a red dog", "of the"])
    assert [[entry.split()[0] for entry in line.split("\t") if entry] for line in lines] == sets
    first = json.loads(cli.invoke(app, ["predict", str(run.model), str(texts), "--json"]).stdout.splitlines()[0])
    assert first["labels"] == sets[0] and list(first["probabilities"]) == ["animal", "colour", "motion"]


def test_other_separators_lists_and_whole_numbers(tmp_path: Path) -> None:
    numbers = {"animal": "1", "colour": "2", "motion": "7"}
    for name, count, seed in (("train", 60, 1), ("test", 20, 2)):
        rows = [{"text": text, "kinds": [numbers[label] for label in labels]} for text, labels in kinds(count, seed)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = tmp_path / "kinds.yaml"
    recipe.write_text(RECIPE.replace(".csv", ".jsonl").replace(', label_separator: "|"', ""), encoding="utf-8")
    overrides = ["output.report=false", "output.baseline=false", "training.max_epochs=1", "training.calibrate=null"]
    run = jobs.train(load_recipe(recipe, overrides=overrides), out=tmp_path / "run")
    assert tidegate.load(run.model).classes_.tolist() == [1, 2, 7]


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_kinds(tmp_path, separator=";", train=20)
    run = jobs.train(
        load_recipe(
            path,
            overrides=[
                "data.label_separator=;",
                "training.max_epochs=1",
                "training.calibrate=null",
                "output.baseline=false",
            ],
        ),
        out=tmp_path / "run",
    )
    with pytest.raises(
        DataError, match=r"test\.csv:\d+: the label 'animal;\w+' is not one that the model was trained on"
    ):
        jobs.evaluate(run.model, str(tmp_path / "test.csv"), label="kinds", label_separator="|")
    with pytest.raises(DataError, match="label_separator= has no effect on bundled data"):
        jobs.evaluate(run.model, "bundled:reviews_en", label_separator="|")
    with pytest.raises(DataError, match="the label 'positive' is not one that the model was trained on"):
        jobs.evaluate(run.model, "bundled:reviews_en")
    (tmp_path / "train.csv").write_text("kinds,text\n,a red dog\n,nothing\n", encoding="utf-8")
    (tmp_path / "test.csv").write_text("kinds,text\n,a red dog\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"kinds\.yaml:2: no text has a label\. Check the column data\.label and data\."
    ):
        jobs.train(load_recipe(path), out=tmp_path / "other")


def test_a_separator_is_refused_where_there_is_one_label_a_text(tmp_path: Path) -> None:
    from tiny_reviews import write_tiny

    recipe = load_recipe(write_tiny(tmp_path, train=30), overrides=["output.baseline=false", "training.max_epochs=1"])
    run = jobs.train(recipe, out=tmp_path / "run")
    with pytest.raises(DataError, match="label_separator= has no effect on data with one label a text"):
        jobs.evaluate(run.model, str(tmp_path / "test.csv"), label_separator=";")
    with pytest.raises(RecipeError, match=r"data\.label_separator: unknown key"):
        load_recipe(tmp_path / "tiny.yaml", overrides=["data.label_separator=;"])
