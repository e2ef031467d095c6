"""The model card and the records that a run of each task leaves."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidegate import load
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.errors import MissingExtraError, RecipeError
from tidegate.jobs import Training, train
from tiny_reviews import RECIPE, rows, write_tiny
from tiny_tags import conll, tiny_sentences

LINEAR = """\
task: linear-text-classification
data: {train: train.csv, test: test.csv}
training: {random_state: 3}
output: {log: tensorboard}
"""
TAGGING = """\
task: sequence-tagging
data: {train: train.conll, test: test.conll}
model: {embedding_size: 8, char_embedding_size: 4, char_hidden_size: 4, hidden_size: 8}
training: {learning_rate: 0.02, max_epochs: 2, random_state: 0, device: cpu}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    write_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def ensemble(folder: Path) -> Training:
    """Two members, as the command line trains them with a record."""
    pytest.importorskip("tensorboard")
    command = ["train", str(folder / "tiny.yaml"), "--out", str(folder / "run"), "--members", "2", "--json"]
    result = CliRunner().invoke(app, [*command, "--log", "tensorboard", "--set", "text.max_vocabulary=6"])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["card"] == str(folder / "run" / "model_card.md")
    return Training(**{**values, "folder": Path(values["folder"]), "card": Path(values["card"])})


def card(run: Training) -> str:
    assert run.card is not None
    return run.card.read_text(encoding="utf-8").replace("\\", "")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_the_card_of_an_ensemble_tells_what_the_run_was(ensemble: Training) -> None:
    told = card(ensemble)
    assert ensemble.test is not None and ensemble.baseline is not None
    assert told.startswith("# Model card: Tiny reviews\n")
    assert f"| accuracy | {ensemble.test['accuracy']:.4f} | {ensemble.test['interval'][0]:.4f} to" in told
    assert f"accuracy {ensemble.baseline['accuracy']:.4f}; the model is" in told
    assert "2 models averaged" in told and "| seed | 3 |" in told
    assert "| train | 80 | train.csv |" in told and "| test | 30 | test.csv |" in told
    assert "- text: max_tokens = 6, max_vocabulary = 6, min_count = 1" in told  # what the recipe sets, and no default
    assert "Latin" in told and "Chinese characters" in told
    assert str(ensemble.folder.parent) not in told


def test_the_share_of_unknown_tokens_is_that_of_the_encoder(ensemble: Training) -> None:
    encoder = load(ensemble.model).members_[0].encoder_
    ids = [token for row in encoder.encode([text for _, text in rows(30, 2)]).ids for token in row]
    share = 100 * ids.count(0) / len(ids)
    assert share > 5
    assert f"{share:.1f}% of the test tokens" in card(ensemble)
    assert f"{share:.1f}% of the test tokens are unknown to it; texts of more" in card(ensemble)


def test_each_member_and_the_whole_have_their_records(ensemble: Training) -> None:
    for member in ("member-1", "member-2"):
        with open(ensemble.folder / member / "epochs.csv", encoding="utf-8", newline="") as stream:
            losses = [(int(row["epoch"]), float(row["train_loss"])) for row in csv.DictReader(stream)]
        recorded = scalars(ensemble.folder / "tensorboard" / member)["train_loss"]
        assert recorded == [(epoch, pytest.approx(loss)) for epoch, loss in losses]
        assert len(losses) == 2
    results = scalars(ensemble.folder / "tensorboard" / "test")
    assert ensemble.test is not None and ensemble.baseline is not None
    assert results["test_accuracy"] == [(0, pytest.approx(ensemble.test["accuracy"]))]
    assert results["baseline_accuracy"] == [(0, pytest.approx(ensemble.baseline["accuracy"]))]


def test_a_resolved_recipe_keeps_the_records_and_replacing_a_run_removes_them(ensemble: Training) -> None:
    recipe = load_recipe(ensemble.folder / "recipe.yaml")
    assert recipe.sections.output.log == ["tensorboard"]
    again = load_recipe(ensemble.folder / "recipe.yaml", overrides=["output.log=[]", "training.max_epochs=1"])
    run = train(again, out=ensemble.folder.parent / "replaced")
    (run.folder / "tensorboard").mkdir()
    run = train(again, out=run.folder, overwrite=True)
    assert not (run.folder / "tensorboard").exists()


def test_a_linear_model_has_a_card_and_its_results_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = train(load_recipe(write_tiny(tmp_path, LINEAR)), out=tmp_path / "run")
    told = card(run)
    assert "linear-text-classifier (task linear-text-classification)" in told
    bag = load(run.model).bag_
    assert f"a vocabulary of {len(bag.terms):,} entries" in told
    assert run.test is not None
    assert scalars(run.folder / "tensorboard" / "test")["test_accuracy"][0][1] == pytest.approx(run.test["accuracy"])


def test_a_tagger_has_a_card(tmp_path: Path) -> None:
    for seed, (name, count) in enumerate([("train", 100), ("test", 30)]):
        sentences, tags, _ = tiny_sentences(count, seed)
        (tmp_path / f"{name}.conll").write_text(conll(sentences, tags), encoding="utf-8")
    (tmp_path / "tags.yaml").write_text(TAGGING, encoding="utf-8")
    run = train(load_recipe(tmp_path / "tags.yaml"), out=tmp_path / "run")
    told = card(run)
    assert run.test is not None
    low, high = run.test["interval"]
    assert f"| F1 of segments | {run.test['f1']:.4f} | {low:.4f} to {high:.4f} |" in told
    assert "| train | 100 | train.conll |" in told
    assert "0.0% of the test tokens" in told  # all of the few words stand in the training sentences
    assert "Cyrillic" in told


def test_a_record_that_is_none_or_not_installed_stops_a_run_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny(tmp_path, RECIPE)
    with pytest.raises(
        RecipeError, match=r"output.log\[0\]: expected tensorboard or mlflow, found the text 'tensorbord'"
    ):
        load_recipe(path, overrides=["output.log=tensorbord"])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"'tensorboard', which is not installed.*tidegate\[records\]"):
        train(load_recipe(path, overrides=["output.log=tensorboard"]), out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
