"""``tidegate train --members`` in the tasks whose predictions are averaged, and its refusal in the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import tidegate
from jobs.test_linear import RECIPE as LINEAR
from jobs.test_multitask import write_tasks
from jobs.test_tuning_tasks import write_contextual, write_tags
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import RecipeError
from tiny_kinds import write_kinds
from tiny_reviews import write_tiny
from tiny_stars import write_numbers


def call(*words: str, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), input=None if stdin is None else stdin.encode())
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode("utf-8")


def train(recipe: Path, *overrides: str, **options: Any) -> jobs.Training:
    return jobs.train(load_recipe(recipe, overrides=overrides), out=recipe.parent / "run", verbose=False, **options)


@pytest.mark.parametrize(
    ("write", "label", "figure", "name"),
    [
        (write_numbers, "stars", "mae", "mean absolute error"),
        (write_kinds, "kinds", "micro_f1", "micro F1"),
    ],
)
def test_members_are_one_model_to_every_command(
    write: Callable[[Path], Path], label: str, figure: str, name: str, tmp_path: Path
) -> None:
    recipe = write(tmp_path)
    run = train(recipe, members=2)
    assert run.test is not None and run.report is not None and run.card is not None
    assert {path.name for path in run.folder.iterdir()} >= {"member-1", "member-2", "model.tg"}
    model = tidegate.load(run.model)
    assert len(model.members_) == 2
    assert any(note.startswith(f"an ensemble of 2 members: validation {name} ") for note in run.notes)
    assert f"an ensemble of 2 members: validation {name}" in run.report.read_text(encoding="utf-8")
    card = run.card.read_text(encoding="utf-8")
    parameters = sum(weight.numel() for member in model.members_ for weight in member.network_.state_dict().values())
    assert f"2 models averaged, {parameters:,} learned numbers" in card
    separator = ["--label-separator", "|"] if label == "kinds" else []
    evaluated = call("evaluate", str(run.model), str(tmp_path / "test.csv"), "--label", label, *separator, "--json")
    assert json.loads(evaluated)["metrics"][figure] == pytest.approx(run.test[figure])
    line = json.loads(call("predict", str(run.model), "-", "--json", stdin="a lovely red dog\n").splitlines()[0])
    if label == "stars":
        assert line["number"] == pytest.approx(model.predict(["a lovely red dog"])[0])
    else:
        assert line["labels"] == model.predict_labels(["a lovely red dog"])[0]
    resumed = train(recipe, members=2, resume=True)
    assert resumed.test == run.test


def test_snapshots_of_a_regression_from_a_recipe(tmp_path: Path) -> None:
    recipe = write_numbers(tmp_path)
    run = train(recipe, "training.max_epochs=4", "output.baseline=false", members=2, snapshots=True)
    assert [model.best_epoch_ for model in tidegate.load(run.model).members_] == [2, 4]
    assert run.test is not None and run.test["mae"] < run.test["guess"]


def test_taggers_are_one_tagger_to_every_command(tmp_path: Path) -> None:
    recipe = write_tags(tmp_path)
    run = train(recipe, "training.max_epochs=2", members=2)
    assert run.test is not None and run.report is not None and run.card is not None
    model = tidegate.load(run.model)
    evaluated = json.loads(call("evaluate", str(run.model), str(tmp_path / "test.conll"), "--json"))
    assert evaluated["metrics"]["f1"] == pytest.approx(run.test["f1"])
    line = json.loads(call("predict", str(run.model), "-", "--json", stdin="Ada met Bo.\n").splitlines()[0])
    assert [item["text"] for item in line["entities"]] == [item.text for item in model.extract(["Ada met Bo."])[0]]
    assert "an ensemble of 2 members: validation F1 of segments" in run.report.read_text(encoding="utf-8")
    card = run.card.read_text(encoding="utf-8")
    assert "2 models averaged" in card and "find its segments" in card
    assert train(recipe, "training.max_epochs=2", members=2, resume=True).test == run.test


def test_models_of_several_tasks_are_averaged_task_by_task(tmp_path: Path) -> None:
    recipe = write_tasks(tmp_path)
    run = train(recipe, "training.max_epochs=2", members=2)
    model = tidegate.load(run.model)
    assert type(model) is tidegate.MultiTaskTextEnsemble and [task.name for task in model.tasks_] == ["tone", "stars"]
    texts = ["a lovely great film", "dull"]
    said = [member.predict_outputs(texts) for member in model.members_]
    for task, outputs in model.predict_outputs(texts).items():
        np.testing.assert_allclose(outputs, (said[0][task] + said[1][task]) / 2, rtol=1e-6)
        assert np.abs(said[0][task] - said[1][task]).max() > 1e-4
    tones = model.classes_["tone"]
    assert tones is not None
    best = tones[model.predict_proba(texts)["tone"].argmax(1)]
    assert model.predict(texts)["tone"].tolist() == best.tolist()
    assert any(note.startswith("an ensemble of 2 members: validation mean of accuracy and R2") for note in run.notes)
    assert {path.name for path in (run.folder / "single-1").iterdir()} == {"member-1", "member-2"}
    metrics = jobs.evaluate(run.model, str(tmp_path / "test.csv"), label="stars=rating,tone=tone").metrics
    assert run.test is not None and metrics["tasks"] == run.test["tasks"]
    line = json.loads(call("predict", str(run.model), "-", "--json", stdin="dull\n").splitlines()[0])
    assert line["tasks"]["stars"]["number"] == pytest.approx(model.predict(["dull"])["stars"][0], abs=1e-5)
    assert run.card is not None and "2 models averaged" in run.card.read_text(encoding="utf-8")
    whole = tidegate.MultiTaskTextEnsemble(model.estimator, members=2, by="snapshots")
    assert len(whole.fit(texts * 8, {"tone": ["good", "bad"] * 8, "stars": [5.0, 1.0] * 8}).members_) == 2


def test_contextual_classifiers_are_averaged_and_have_no_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = write_contextual(tmp_path)
    run = train(recipe, "training.max_epochs=1", "output.baseline=false", members=2)
    model = tidegate.load(run.model)
    said = [member.predict_proba(["a good film"]) for member in model.members_]
    assert model.predict_proba(["a good film"]) == pytest.approx((said[0] + said[1]) / 2)
    assert jobs.evaluate(run.model, str(tmp_path / "test.csv")).metrics == run.test
    with pytest.raises(RecipeError, match="snapshots need schedule='cyclic', which ContextualTextClassifier has not"):
        train(recipe, members=2, snapshots=True, overwrite=True)


def test_what_a_task_has_no_ensemble_for_says_why(tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path, LINEAR)
    with pytest.raises(RecipeError, match=r"--members 2: the task linear-text-classification .* would be equal\."):
        train(recipe, members=2)
    with pytest.raises(RecipeError, match=r"--members must be 1 or more; found 0\."):
        train(recipe, members=0)
    assert not (tmp_path / "run").exists()


def test_what_an_estimator_refuses_is_said_of_the_recipe(tmp_path: Path) -> None:
    recipe = write_numbers(tmp_path)
    with pytest.raises(RecipeError, match=r"stars\.yaml: found max_epochs|stars\.yaml: snapshots need cycles of whole"):
        train(recipe, members=2, snapshots=True)  # three epochs
    with pytest.raises(RecipeError, match=r"stars\.yaml: momentum=0\.9 has no effect with optimizer='adamw'"):
        train(recipe, "training.momentum=0.9", overwrite=True)
