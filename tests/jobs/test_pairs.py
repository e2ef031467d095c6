"""Pairs of texts from a recipe to a report, an evaluation and predictions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.data.pairs import flatten
from tidegate.errors import DataError, RecipeError
from tiny_reviews import rows, write_tiny

RECIPE = """\
task: text-classification
data: {train: train.csv, test: test.csv, text: [first, second]}
text: {min_count: 1}
model: {embedding_size: 12, hidden_size: 12, dropout: 0.1, embedding_dropout: 0.0}
training: {max_epochs: 6, learning_rate: 0.01, batch_size: 16, random_state: 3, device: cpu, monitor: loss}
output:
  baseline: true
  try: [[a lovely great film, the 好 plot], [dull and bad, "great great"]]
"""


def write_pairs(path: Path, count: int, seed: int) -> Path:
    """Pairs of which one text is good and one bad, or both are alike; a number says the same."""
    drawn = random.Random(seed)
    groups = {name: [text for label, text in rows(200, seed) if label == name] for name in ("pos", "neg")}
    lines = ["label,agree,first,second"]
    for _ in range(count):
        first, second = drawn.choice(["pos", "neg"]), drawn.choice(["pos", "neg"])
        label, number = ("same", 1) if first == second else ("other", -1)
        lines.append(f"{label},{number},{drawn.choice(groups[first])},{drawn.choice(groups[second])}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder / "train.csv", 400, 1)
    write_pairs(folder / "test.csv", 60, 2)
    (folder / "pairs.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> jobs.Training:
    return jobs.train(load_recipe(folder / "pairs.yaml"), out=folder / "run")


def call(*arguments: object, stdin: str = "", code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin.encode())
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_a_run_learns_beside_a_baseline_of_both_texts(run: jobs.Training, folder: Path) -> None:
    assert run.test is not None and run.test["accuracy"] > 0.9
    assert run.baseline is not None and "of both texts, their distance and product" in run.baseline["name"]
    assert [item.text for item in run.predictions] == [
        ("a lovely great film", "the 好 plot"),
        ("dull and bad", "great great"),
    ]
    assert [item.label for item in run.predictions] == ["same", "other"]
    facts = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert facts["counts"] == {"train": 400, "test": 60}
    texts = [line.split(",")[2:] for line in (folder / "test.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert facts["token_lengths"]["test"] == [len(text.split()) for text in flatten([tuple(pair) for pair in texts])[0]]
    assert all(" ⇄ " in item["text"] for item in facts["mistakes"])
    assert run.card is not None and "60 test pairs of texts:" in run.card.read_text(encoding="utf-8")
    assert load_recipe(run.folder / "recipe.yaml").sections.data["text"] == ["first", "second"]


def test_a_saved_model_is_judged_on_the_columns_that_are_named(run: jobs.Training, folder: Path) -> None:
    stdout, _ = call("evaluate", run.model, folder / "test.csv", "--text", "first,second", "--json")
    assert run.test is not None
    assert json.loads(stdout)["metrics"]["accuracy"] == run.test["accuracy"]
    for named in ((), ("--text", "first")):
        _, stderr = call("evaluate", run.model, folder / "test.csv", *named, code=1)
        assert "the model reads pairs of texts: expected both columns, as --text first,second" in stderr


def test_lines_of_pairs_are_predicted(run: jobs.Training) -> None:
    lines = 'a great film\ta lovely plot\n["dull", "a great cast"]\n{"q": "bad", "r": "坏"}\n'
    stdout, _ = call("predict", run.model, "--json", stdin=lines)
    found = [json.loads(line) for line in stdout.splitlines()]
    pairs = [("a great film", "a lovely plot"), ("dull", "a great cast"), ("bad", "坏")]
    assert [tuple(item["text"]) for item in found] == pairs
    expected = tidegate.load(run.model).predict_proba(pairs)
    assert np.allclose([list(item["probabilities"].values()) for item in found], expected, atol=1e-6)
    stdout, _ = call("predict", run.model, stdin="a great film\ta lovely plot\n")
    assert stdout.startswith("same\t0.")
    _, stderr = call("predict", run.model, stdin="only one text\n", code=1)
    assert "expected two texts with a tab between them" in stderr and "'only one text'" in stderr


def test_ensembles_unlabelled_texts_and_numbers_of_pairs(folder: Path) -> None:
    short = ["output.baseline=false", "output.report=false", "training.max_epochs=1"]
    (folder / "more.csv").write_text("first,second\nan unheardof film,an unheardof plot\n" * 2, encoding="utf-8")
    keys = [*short, "data.unlabelled=more.csv", "training.pretrain_epochs=1"]
    run = jobs.train(load_recipe(folder / "pairs.yaml", overrides=keys), out=folder / "ensemble", members=2)
    model = tidegate.load(run.model)
    assert model.reads_pairs and "unheardof" in model.members_[0].encoder_.vocabulary.index
    numbers = ["task=text-regression", "data.label=agree"]
    recipe = load_recipe(folder / "pairs.yaml", overrides=[*numbers, "output.baseline=true", "training.max_epochs=4"])
    run = jobs.train(recipe, out=folder / "numbers")
    assert run.test is not None and run.test["r2"] > 0.5
    assert run.baseline is not None and "of both texts" in run.baseline["name"]
    judged = jobs.evaluate(run.model, str(folder / "test.csv"), text="first,second", label="agree")
    assert judged.metrics["mae"] == run.test["mae"]
    assert next(jobs.predict(run.model, [["good\tbad"]]))[0].text == ("good", "bad")


def test_what_cannot_be_is_said_with_its_place(folder: Path, tmp_path: Path) -> None:
    path = folder / "pairs.yaml"
    for override, message in (
        ("data.text=[a, b, c]", r"data\.text: expected the name of a column, or of two for pairs: \[first, second\]"),
        ("data.text=[a, a]", r"data\.text: expected two different columns for pairs"),
        ("data.text=3", r"data\.text: expected the name of a column"),
        ("output.try=[one]", r"output\.try\[0\]: expected two texts, as \[first, second\]"),
        ("data.text=first", r"output\.try\[0\]: expected one text"),
        ("output.try=[[a, b, c]]", r"output\.try\[0\]: expected a text, or two for a pair"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(path, overrides=[override])
    linear = write_tiny(tmp_path, "task: linear-text-classification\ndata: {train: train.csv}\n")
    with pytest.raises(RecipeError, match=r"data\.text: the task linear-text-classification reads one text a row"):
        load_recipe(linear, overrides=["data.text=[a, b]"])
    assert load_recipe(path, overrides=["data.text=[first]", "output.try=[]"]).sections.data["text"] == "first"
    with pytest.raises(DataError, match=r"there is no column 'third'"):
        jobs.validate(path, overrides=["data.text=[first, third]"])


def test_pairs_that_stand_in_two_parts_are_noted(tmp_path: Path) -> None:
    recipe = RECIPE.replace("max_epochs: 6", "max_epochs: 1").replace("baseline: true", "report: false")
    (tmp_path / "pairs.yaml").write_text(recipe, encoding="utf-8")
    path = write_pairs(tmp_path / "train.csv", 40, 1)
    first = path.read_text(encoding="utf-8").splitlines()[1]
    (tmp_path / "test.csv").write_text(f"label,agree,first,second\n{first}\nsame,1,,new\n", encoding="utf-8")
    run = jobs.train(load_recipe(tmp_path / "pairs.yaml"), out=tmp_path / "run")
    assert any(note.startswith("1 of 2 test texts also stand in the training data") for note in run.notes)
    assert any(note.startswith("1 of 2 test texts are empty (the first: test.csv:3)") for note in run.notes)
