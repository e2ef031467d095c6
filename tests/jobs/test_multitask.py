"""Recipes of several tasks: from YAML and files with holes to a model that is judged beside models of one task."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import MultiTaskTextModel, jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import DataError, RecipeError
from tidegate.jobs.multitask_data import read_target_splits, target_notes
from tidegate.reporting.metrics import classification_metrics
from tidegate.reporting.number_metrics import number_metrics
from tiny_reviews import BAD, GOOD, rows

TASK = "multi-task-text"
RECIPE = """\
task: multi-task-text
data: {train: [labels.csv, stars.jsonl], test: test.csv, columns: {stars: rating}}
text: {min_count: 1, max_tokens: 6}
model:
  tasks: {tone: classification, stars: regression}
  embedding_size: 8
  hidden_size: 8
  dropout: 0.0
  embedding_dropout: 0.0
training: {max_epochs: 4, learning_rate: 0.05, batch_size: 16, random_state: 3, device: cpu, validation_fraction: 0.2}
output: {baseline: true, single_tasks: true, title: Tone and stars, try: [a lovely great film, ""]}
"""


def stars(text: str) -> int:
    return 3 + sum(word in GOOD for word in text.split()) - sum(word in BAD for word in text.split())


def write_tasks(folder: Path, recipe: str = RECIPE) -> Path:
    """Labels in one file, stars in another, and both of the test texts, of which some lack a label."""
    labelled = ["tone,text", *(f"{label},{text}" for label, text in rows(60, 1))]
    (folder / "labels.csv").write_text("\n".join(labelled) + "\n", encoding="utf-8")
    rated = [json.dumps({"text": text, "rating": stars(text)}) for _, text in rows(50, 2)]
    (folder / "stars.jsonl").write_text("\n".join(rated) + "\n", encoding="utf-8")
    both = [
        "tone,text,rating",
        *(f"{label if i % 3 else ''},{text},{stars(text)}" for i, (label, text) in enumerate(TESTED)),
    ]
    (folder / "test.csv").write_text("\n".join(both) + "\n", encoding="utf-8")
    path = folder / "tasks.yaml"
    path.write_text(recipe, encoding="utf-8")
    return path


TESTED = rows(30, 5)
TEXTS = [text for _, text in TESTED]
TONES = [(i, label) for i, (label, _) in enumerate(TESTED) if i % 3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> jobs.Training:
    folder = tmp_path_factory.mktemp("tasks")
    return jobs.train(load_recipe(write_tasks(folder)), out=folder / "run")


def test_the_recipes_that_ship_are_valid() -> None:
    for name in ("multitask_en", "multitask_shopping"):
        recipe = load_recipe(name, check_files=False)
        assert set(MultiTaskTextModel(**recipe.arguments).get_params()) >= set(recipe.arguments)
    splits = read_target_splits(load_recipe("multitask_en"))
    assert {name: examples.counts() for name, examples in splits.parts().items()} == {
        "train": {"label": 8056, "rating": 8056},
        "validation": {"label": 1007, "rating": 1007},
        "test": {"label": 1007, "rating": 1007},
    }
    assert all(
        (label == "positive") == (rating > 0) for label, rating in zip(*splits.train.targets.values(), strict=True)
    )


def test_a_run_leaves_the_metrics_of_each_task_beside_those_of_a_model_of_it_alone(run: jobs.Training) -> None:
    model = tidegate.load(run.model)
    assert isinstance(model, MultiTaskTextModel)
    outputs = model.predict_outputs(TEXTS)
    places = [place for place, _ in TONES]
    expected = {
        "tone": classification_metrics([label for _, label in TONES], outputs["tone"][places], ["neg", "pos"]),
        "stars": number_metrics([stars(text) for text in TEXTS], outputs["stars"]),
    }
    assert run.test == {"count": 30, "tasks": expected}
    assert expected["tone"]["accuracy"] > 0.9 and expected["stars"]["mae"] < expected["stars"]["guess"]
    record = json.loads((run.folder / "metrics.json").read_text("utf-8"))
    alone = MultiTaskTextModel(**{**model.get_params(), "tasks": {"stars": "regression"}})
    alone.fit([text for _, text in rows(50, 2)], {"stars": [stars(text) for _, text in rows(50, 2)]})
    found = number_metrics([stars(text) for text in TEXTS], alone.predict(TEXTS)["stars"])
    assert record["single"]["stars"]["mae"] == pytest.approx(found["mae"], rel=1e-4)
    assert set(record["single"]) == set(record["baseline"]["tasks"]) == {"tone", "stars"}
    assert record["baseline"]["tasks"]["tone"]["accuracy"] > 0.8
    assert any(note == "of 110 train texts there are targets 60 of tone, 50 of stars" for note in run.notes)


def test_the_report_has_a_section_a_task(run: jobs.Training) -> None:
    assert run.report is not None and run.test is not None
    page = run.report.read_text("utf-8")
    for words in ("Task tone: classification", "Task stars: regression", "together", "alone", "TF-IDF, linear"):
        assert words in page, words
    first, second = page.index("Task tone"), page.index("Task stars")
    assert first < page.index("<h3>Test set by class</h3>") < second < page.index("<h3>Texts missed by most</h3>")
    assert page.count("<h2>Task ") == 2
    assert f"{100 * run.test['tasks']['tone']['accuracy']:.1f}%" in page
    assert "tone: pos" in page  # in the table of counts
    card = (run.folder / "model_card.md").read_text("utf-8")
    assert re.search(r"tone", card) and re.search(r"mean absolute error \| \d", card)


def test_the_recipe_of_a_run_repeats_it(run: jobs.Training, tmp_path: Path) -> None:
    recipe = load_recipe(run.folder / "recipe.yaml", overrides=["output={single_tasks: false}"])
    assert [path.name for path in recipe.data_paths("train")] == ["labels.csv", "stars.jsonl"]
    again = jobs.train(recipe, out=tmp_path / "again")
    assert again.test == run.test
    assert (
        "single" not in json.loads((tmp_path / "again" / "metrics.json").read_text("utf-8"))
        or not json.loads((tmp_path / "again" / "metrics.json").read_text("utf-8"))["single"]
    )


def test_a_resumed_run_does_not_train_the_single_models_again(run: jobs.Training, monkeypatch: Any) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a step was trained")

    monkeypatch.setattr("tidegate.training.module.NetworkModule.training_step", refuse)
    recipe = load_recipe(run.folder.parent / "tasks.yaml")
    again = jobs.train(recipe, out=run.folder, resume=True)
    assert again.test == run.test
    record = json.loads((run.folder / "metrics.json").read_text("utf-8"))
    assert set(record["single"]) == {"tone", "stars"}


def test_evaluate_takes_the_columns_that_there_are(run: jobs.Training, tmp_path: Path) -> None:
    folder = run.folder.parent
    assert run.test is not None
    data = str(folder / "test.csv")
    assert jobs.evaluate(run.model, data).metrics["tasks"] == {"tone": run.test["tasks"]["tone"]}
    metrics = jobs.evaluate(run.model, data, label="stars=rating,tone=tone").metrics
    assert metrics == run.test
    (tmp_path / "other.csv").write_text("text,kind\ngreat,good\n", encoding="utf-8")
    for arguments, message in (
        ({}, "there are targets of none of the tasks tone, stars; found the columns 'text', 'kind'"),
        ({"label": "kind"}, "expected TASK=COLUMN,TASK=COLUMN with the tasks tone, stars"),
        ({"label": "tune=kind"}, "'tune' is none of the tasks tone, stars. Did you mean 'tone'"),
        ({"label": "tone=kinds"}, "there is no column 'kinds', which has the targets of the task 'tone'"),
        ({"label": "tone=kind"}, "other.csv:2: the label 'good' is none that the task 'tone' was trained on"),
        ({"unit": "words"}, "unit= has no effect on texts with targets"),
    ):
        with pytest.raises(DataError, match=message):
            jobs.evaluate(run.model, str(tmp_path / "other.csv"), **arguments)
    with pytest.raises(DataError, match="there are no rows of the part dev"):
        jobs.evaluate(run.model, str(tmp_path / "other.csv"), label="tone=kind", part="dev", split="kind")


def test_the_command_line(run: jobs.Training, tmp_path: Path) -> None:
    cli, model = CliRunner(), tidegate.load(run.model)
    said = cli.invoke(app, ["predict", str(run.model), "--json"], input="a great film\nbad\n")
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    outputs = model.predict_outputs(["a great film", "bad"])
    assert [answer["tasks"]["tone"]["label"] for answer in answers] == model.predict(["a great film", "bad"])[
        "tone"
    ].tolist()
    assert answers[1]["tasks"]["stars"]["number"] == pytest.approx(float(outputs["stars"][1]), abs=1e-5)
    assert answers[0]["tasks"]["tone"]["probabilities"]["pos"] == pytest.approx(float(outputs["tone"][0, 1]), abs=1e-5)
    plain = cli.invoke(app, ["predict", str(run.model)], input="a great film\n").stdout
    assert re.fullmatch(r"tone pos 0\.\d{4}\tstars \+\d\.\d{4}\n", plain)
    recipe = write_tasks(tmp_path)
    trained = cli.invoke(
        app,
        [
            *("train", str(recipe), "--out", str(tmp_path / "run"), "--quiet", "--set", "training.max_epochs=1"),
            *("--set", "training.task_sampling=uniform", "--set", "training.task_weights=uncertainty"),
        ],
    )
    assert trained.exit_code == 0, trained.output
    flat = " ".join(trained.output.split())
    for words in ("tone: accuracy", "stars: MAE", "baseline MAE", "tone: neg", "tone pos", "stars +"):
        assert words in flat, words
    judged = cli.invoke(app, ["evaluate", str(tmp_path / "run" / "model.tg"), str(tmp_path / "test.csv")])
    assert judged.exit_code == 0 and "tone: accuracy" in judged.output
    assert any(
        note.startswith("the weights that the tasks' losses were learned to have: tone ")
        for note in json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["notes"]
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  tasks: {tone: classification, stars: regression}\n", "", "tasks.yaml:4: model.tasks is missing"),
        ("stars: regression", "stars: regresion", "model.tasks.stars: expected 'classification' or 'regression'"),
        (
            "columns: {stars: rating}",
            "columns: {star: rating}",
            "data.columns: 'star' is none of model.tasks (tone, st",
        ),
        ("max_epochs: 4", "monitor: tones", "training.monitor: expected mean, loss, a task (tone, stars)"),
        ("max_epochs: 4", "monitor: stars_accuracy", "found the text 'stars_accuracy'"),
        ("max_epochs: 4", "task_weights: {tone: 0}", "training.task_weights.tone: expected a number greater than 0"),
        (
            "max_epochs: 4",
            "task_weights: learned",
            "training.task_weights: expected uncertainty or null, found the text",
        ),
        ("max_epochs: 4", "task_weights: {ton: 1}", "'ton' is none of model.tasks (tone, stars). Did you mean 'tone'"),
        ("max_epochs: 4", "task_sampling: even", "expected joint, proportional, square-root, uniform or temperature"),
        ("max_epochs: 4", "task_sampling: temperature", "sampling_temperature go together"),
        ("max_epochs: 4", "sampling_temperature: 2.0", "training.sampling_temperature: task_sampling: temperature"),
        ("max_epochs: 4", "sampling_temperature: 0.5", "expected a number of at least 1"),
        ("max_epochs: 4", "class_weight: balanced", "training.class_weight: unknown key"),
        ("stars: regression}", "stars: classification}\n  regression_loss: huber", "no task is a regression"),
        ("stars.jsonl]", "star.jsonl]", "data.train: expected a file or folder, found none at"),
        ("labels.csv, stars.jsonl", "", "data.train: expected one entry at least, found a list"),
        ("single_tasks: true", "single_task: true", "output.single_task: unknown key. Did you mean 'single_tasks'"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RECIPE
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_tasks(tmp_path, RECIPE.replace(old, new)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "columns: {stars: rating}",
            "columns: {stars: rated}",
            "no column 'rated', .* task 'stars'; found 'tone', 'text'",
        ),
        ("[labels.csv, stars.jsonl]", "labels.csv", "no column 'rating', which has the targets of the task 'stars'"),
        ("{tone: classification", "{tone: regression", "labels.csv:2: expected a finite number in column 'tone'"),
    ],
)
def test_data_that_cannot_be_read(tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe = load_recipe(write_tasks(tmp_path, RECIPE.replace(old, new)))
    with pytest.raises(DataError, match=message):
        read_target_splits(recipe)


def test_a_label_that_training_has_not_is_named_with_its_place(tmp_path: Path) -> None:
    recipe = load_recipe(write_tasks(tmp_path))
    (tmp_path / "test.csv").write_text("text,tone,rating\ngood,so-so,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.csv:2: the label 'so-so' is none that the task 'tone' was trained on"):
        read_target_splits(recipe)
    (tmp_path / "labels.csv").write_text("text,tone\ngood,a\nbad,a\n", encoding="utf-8")
    with pytest.raises(DataError, match="the task 'tone' needs two classes at least; all 2 targets are 'a'"):
        read_target_splits(recipe)
    (tmp_path / "labels.csv").write_text("text,tone\ngood,\nbad,\n", encoding="utf-8")
    with pytest.raises(DataError, match="no training text has a target of the task 'tone'"):
        read_target_splits(recipe)


def test_validate_reads_the_first_rows(tmp_path: Path) -> None:
    found = jobs.validate(write_tasks(tmp_path)).data
    assert set(found) == {"train", "test"} and "stars.jsonl" in found["train"]
    assert jobs.validate("multitask_en").data == {"source": "bundled:reviews_en"}
    (tmp_path / "test.csv").write_text("text,tone\ngood,pos\n", encoding="utf-8")
    with pytest.raises(DataError, match="there is no column 'rating', which has the targets of the task 'stars'"):
        jobs.validate(tmp_path / "tasks.yaml")


def test_one_file_with_a_split_column(tmp_path: Path) -> None:
    lines = ["split,text,tone,rating"]
    for split, count, seed in (("train", 40, 1), ("dev", 10, 2), ("test", 10, 3)):
        lines += [f"{split},{text},{label},{stars(text)}" for label, text in rows(count, seed)]
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = RECIPE.replace("train: [labels.csv, stars.jsonl], test: test.csv", "source: all.csv")
    (tmp_path / "tasks.yaml").write_text(recipe.replace(", validation_fraction: 0.2", ""), encoding="utf-8")
    splits = read_target_splits(load_recipe(tmp_path / "tasks.yaml"))
    assert {name: len(examples) for name, examples in splits.parts().items()} == {
        "train": 40,
        "validation": 10,
        "test": 10,
    }
    assert target_notes(splits) == [] or all("also stand in the training data" in note for note in target_notes(splits))


def test_a_learning_rate_is_looked_for(tmp_path: Path) -> None:
    recipe = load_recipe(write_tasks(tmp_path), overrides=["output={report: true}", "training.max_epochs=1"])
    run = jobs.train(recipe, out=tmp_path / "run", find_rate=True)
    assert run.rate_search is not None and len(run.rate_search["rates"]) > 10
    assert tidegate.load(run.model).learning_rate == float(f"{run.rate_search['suggestion']:.2g}") != 0.05
