"""Recipes of text regression: from YAML and a file of numbers to a trained, judged and used model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_score
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.data.bundled import load_review_ratings, load_reviews
from tidegate.data.text_targets import load_rated_reviews
from tidegate.errors import DataError
from tidegate.estimators.text_regressor import TextRegressor
from tidegate.reporting.compare import ridge_baseline
from tidegate.reporting.number_metrics import number_metrics
from tiny_reviews import rows
from tiny_stars import RECIPE, stars, write_numbers


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> jobs.Training:
    folder = tmp_path_factory.mktemp("stars")
    return jobs.train(load_recipe(write_numbers(folder)), out=folder / "run")


def test_a_run_leaves_model_metrics_report_and_predictions(run: jobs.Training) -> None:
    model = tidegate.load(run.model)
    assert isinstance(model, TextRegressor)
    texts = [text for _, text in rows(30, 2)]
    expected = number_metrics([stars(text) for text in texts], model.predict(texts))
    assert run.test == expected
    assert run.test is not None and run.test["mae"] < run.test["guess"]
    assert run.baseline is not None and run.baseline["name"] == "TF-IDF of words and bigrams + ridge regression"
    assert [item.number for item in run.predictions] == model.predict(["a lovely great film", ""]).tolist()
    record = json.loads((run.folder / "metrics.json").read_text("utf-8"))
    assert record["test"]["mae"] == pytest.approx(expected["mae"])
    assert len(record["truth"]) == len(record["predicted"]) == 30
    page = (run.folder / "report.html").read_text("utf-8")
    for words in ("Tiny stars", "mean absolute error on the test set", "Texts missed by most", "ridge regression"):
        assert words in page, words
    assert page.count("<svg") == 4
    resolved = load_recipe(run.folder / "recipe.yaml")
    assert resolved.task == "text-regression" and resolved.arguments["loss"] == "squared"


def test_evaluate_and_predict_on_the_command_line(run: jobs.Training, tmp_path: Path) -> None:
    cli = CliRunner()
    test = str(run.folder.parent / "test.csv")
    said = cli.invoke(app, ["evaluate", str(run.model), test, "--label", "stars", "--json"])
    assert said.exit_code == 0, said.output
    assert run.test is not None
    assert json.loads(said.stdout)["metrics"]["rmse"] == pytest.approx(run.test["rmse"])
    table = cli.invoke(app, ["evaluate", str(run.model), test, "--label", "stars"]).stdout
    assert f"MAE {run.test['mae']:.4f}" in table and "right number" in table
    texts = tmp_path / "texts.txt"
    texts.write_text("a lovely great film\ndull\n", encoding="utf-8")
    numbers = tidegate.load(run.model).predict(["a lovely great film", "dull"]).tolist()
    lines = cli.invoke(app, ["predict", str(run.model), str(texts)]).stdout.splitlines()
    assert [float(line) for line in lines] == pytest.approx(numbers, rel=1e-5)
    first = json.loads(cli.invoke(app, ["predict", str(run.model), str(texts), "--json"]).stdout.splitlines()[0])
    assert first == {"text": "a lovely great film", "number": pytest.approx(numbers[0])}
    missing = cli.invoke(app, ["evaluate", str(run.model), test])
    assert missing.exit_code == 1 and "there is no column 'label'; found 'stars', 'text'" in missing.output


def test_an_ordinal_recipe_gives_the_probability_of_each_rating(tmp_path: Path) -> None:
    recipe = load_recipe(
        write_numbers(tmp_path, train=60),
        overrides=["training.loss=ordinal", "output.report=false", "output.baseline=false"],
    )
    run = jobs.train(recipe, out=tmp_path / "run")
    item = run.predictions[0]
    assert item.number in (1, 2, 3, 4, 5)
    assert list(item.probabilities) == sorted({str(stars(text)) for _, text in rows(60, 1)})
    assert sum(item.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_bundled_reviews_come_with_their_ratings(tmp_path: Path) -> None:
    examples = load_rated_reviews("test")
    assert examples.texts == load_reviews("en", "test").texts
    assert examples.targets == load_review_ratings("test")
    path = write_numbers(tmp_path)
    path.write_text(
        RECIPE.replace("{train: train.csv, test: test.csv, label: stars}", "{source: bundled:reviews_zh}").replace(
            ", validation_fraction: 0.2", ""
        )
    )
    with pytest.raises(
        DataError, match="reviews_zh has labels and no numbers to learn; bundled:reviews_en has ratings"
    ):
        jobs.train(load_recipe(path), out=tmp_path / "run")


def test_the_ridge_baseline_is_scikit_learns(tmp_path: Path) -> None:
    train, test = ([text for _, text in rows(count, seed)] for count, seed in ((60, 1), (20, 2)))
    numbers, right = [stars(text) for text in train], [stars(text) for text in test]
    found = ridge_baseline((train, numbers), (test, right))
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[好坏]")
    matrix = terms.fit_transform(train).toarray()
    folds = KFold(3, shuffle=True, random_state=0)
    errors = {
        alpha: -cross_val_score(Ridge(alpha), matrix, numbers, cv=folds, scoring="neg_mean_squared_error").mean()
        for alpha in (0.1, 0.3, 1, 3, 10, 30)
    }
    model = Ridge(min(errors, key=lambda alpha: errors[alpha])).fit(matrix, numbers)
    expected = number_metrics(right, model.predict(terms.transform(test).toarray()))
    assert found["mae"] == pytest.approx(expected["mae"], rel=1e-3)
    assert found["rmse"] == pytest.approx(expected["rmse"], rel=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("many,good film", r"train\.csv:82: expected a finite number in column 'stars', found 'many'"),
        (",good film", r"train\.csv:82: the number is missing \(column 'stars' is empty\)"),
        ("nan,good film", r"train\.csv:82: expected a finite number in column 'stars', found 'nan'"),
    ],
)
def test_a_number_that_is_none_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = write_numbers(tmp_path)
    with open(tmp_path / "train.csv", "a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        jobs.train(load_recipe(path), out=tmp_path / "run")
