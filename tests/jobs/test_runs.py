from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tidegate
from tidegate import jobs
from tidegate.config import load_recipe
from tidegate.data.encoder import TextEncoder
from tidegate.deploy.bundle import load_bundle
from tidegate.errors import BundleError, DataError, RecipeError, TidegateError
from tidegate.estimators.text_classifier import TextClassifier
from tiny_reviews import rows, write_csv, write_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> jobs.Training:
    return jobs.train(load_recipe(folder / "tiny.yaml"), out=folder / "run")


# --- train


def test_a_run_learns_and_leaves_everything(run: jobs.Training):
    assert not run.interrupted
    assert run.epochs == 2
    assert run.test is not None and run.test["accuracy"] > 0.9
    assert run.test["count"] == 30
    assert run.baseline is not None and run.baseline["accuracy"] > 0.9
    names = sorted(path.name for path in run.folder.iterdir())
    assert names == [
        "checkpoints",
        "epochs.csv",
        "metrics.json",
        "model.tg",
        "model_card.md",
        "recipe.yaml",
        "report.html",
    ]
    assert run.report == run.folder / "report.html"
    assert "Tiny reviews" in run.report.read_text(encoding="utf-8")


def test_the_saved_model_gives_the_results_of_the_run(run: jobs.Training, folder: Path):
    model = tidegate.load(run.model)
    texts = [text for _, text in rows(30, 2)]
    labels = [label for label, _ in rows(30, 2)]
    assert run.test is not None
    assert np.mean(model.predict(texts) == labels) == pytest.approx(run.test["accuracy"])
    assert load_bundle(run.model).metrics["test"] == run.test
    assert model.best_epoch_ == run.best_epoch
    assert model.history_[run.best_epoch - 1]["validation_accuracy"] == run.validation_accuracy


def test_the_sentences_to_try_are_predicted(run: jobs.Training):
    texts = ["a lovely great film", "dull [bold]and bad", ""]
    assert [item.text for item in run.predictions] == texts
    assert [item.label for item in run.predictions][:2] == ["pos", "neg"]
    expected = tidegate.load(run.model).predict_proba(texts)
    for item, row in zip(run.predictions, expected, strict=True):
        assert list(item.probabilities) == ["neg", "pos"]
        assert list(item.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)


def test_metrics_hold_the_facts(run: jobs.Training):
    facts = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert facts["title"] == "Tiny reviews"
    assert facts["counts"] == {"train": 80, "test": 30}
    assert sum(facts["class_counts"]["train"].values()) == 80
    assert facts["token_lengths"]["test"] == [len(text.split()) for _, text in rows(30, 2)]
    assert facts["test"] == run.test
    assert facts["baseline"] == run.baseline
    assert facts["recipe"]["model"]["hidden_size"] == 8
    assert facts["environment"]["tidegate"] == tidegate.__version__
    assert {"encode", "train", "test", "baseline", "total"} <= set(facts["timing"])
    assert len(facts["mistakes"]) == sum(map(sum, facts["test"]["confusion"])) - np.trace(facts["test"]["confusion"])
    cut = sum(len(text.split()) > 6 for _, text in rows(80, 1))
    assert any(f"longer than max_tokens=6 were {cut} of 80 train texts" in note for note in facts["notes"])
    assert facts["notes"] == run.notes


def test_the_resolved_recipe_repeats_the_run_bit_for_bit(run: jobs.Training, tmp_path: Path):
    again = jobs.train(load_recipe(run.folder / "recipe.yaml"), out=tmp_path / "again")
    first, second = load_bundle(run.model).weights, load_bundle(again.model).weights
    assert sorted(first) == sorted(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    assert load_recipe(again.folder / "recipe.yaml").arguments == load_recipe(run.folder / "recipe.yaml").arguments


def test_a_recipe_without_a_seed_states_the_one_that_was_drawn(folder: Path, tmp_path: Path):
    recipe = load_recipe(folder / "tiny.yaml", overrides=["training.random_state=null", "training.max_epochs=1"])
    first = jobs.train(recipe, out=tmp_path / "a")
    stated = load_recipe(first.folder / "recipe.yaml")
    assert isinstance(stated.arguments["random_state"], int)
    second = jobs.train(stated, out=tmp_path / "b")
    assert first.validation_accuracy == second.validation_accuracy
    np.testing.assert_array_equal(
        load_bundle(first.model).weights["embedding.weight"], load_bundle(second.model).weights["embedding.weight"]
    )


def test_report_and_baseline_can_be_left_out(folder: Path, tmp_path: Path):
    overrides = ["output.report=false", "output.baseline=false", "output.try=[]", "training.max_epochs=1"]
    run = jobs.train(load_recipe(folder / "tiny.yaml", overrides=overrides), out=tmp_path / "run")
    assert (run.report, run.baseline, run.predictions) == (None, None, [])
    assert not (run.folder / "report.html").exists()
    assert json.loads((run.folder / "metrics.json").read_text())["test"] == run.test


def test_a_run_without_a_report_never_renders_one_and_removes_a_stale_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = load_recipe(folder / "tiny.yaml", overrides=["output.baseline=false", "training.max_epochs=1"])
    first = jobs.train(recipe, out=tmp_path / "run")
    assert first.report is not None and first.report.exists()

    def never(facts: Any) -> str:
        raise AssertionError("a page was rendered")

    monkeypatch.setattr("tidegate.reporting.report.render_page", never)
    recipe = load_recipe(folder / "tiny.yaml", overrides=["output.baseline=false", "output.report=false"])
    second = jobs.train(recipe, out=tmp_path / "run", resume=True)
    assert second.report is None
    assert not first.report.exists()
    assert len(json.loads((second.folder / "metrics.json").read_text(encoding="utf-8"))["history"]) == 2


def test_each_text_is_cut_into_tokens_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenised: list[str] = []
    cut = TextEncoder.tokenize

    def counted(self: TextEncoder, text: str) -> list[str]:
        tokenised.append(text)
        return cut(self, text)

    monkeypatch.setattr(TextEncoder, "tokenize", counted)
    monkeypatch.setattr(
        "tidegate.jobs.run_card._sample", lambda examples: []
    )  # the card looks into a few of them again
    overrides = ["output.baseline=false", "output.try=[]", "training.max_epochs=1"]
    jobs.train(load_recipe(folder / "tiny.yaml", overrides=overrides), out=tmp_path / "run")
    assert sorted(tokenised) == sorted(text for _, text in rows(80, 1) + rows(30, 2))


def test_without_test_data_nothing_is_tested(folder: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    text = (folder / "tiny.yaml").read_text(encoding="utf-8").replace("  test: test.csv\n", "")
    recipe.write_text(text, encoding="utf-8")
    run = jobs.train(load_recipe(recipe, data_dir=folder, overrides=["training.max_epochs=1"]), out=tmp_path / "run")
    assert (run.test, run.baseline) == (None, None)
    assert any("there is no test part" in note for note in run.notes)


def test_the_baseline_follows_the_tokenizer_or_its_own_option(folder: Path, tmp_path: Path):
    short = ["training.max_epochs=1", "output.report=false"]
    for overrides, name in [
        (["text.tokenizer=characters"], "characters"),
        (["text.tokenizer=bpe", "text.max_vocabulary=300"], "words"),
        (["output.baseline={tokenizer: characters}"], "characters"),
    ]:
        recipe = load_recipe(folder / "tiny.yaml", overrides=[*short, *overrides])
        run = jobs.train(recipe, out=tmp_path / "run", overwrite=True)
        assert run.baseline is not None
        assert run.baseline["name"].startswith(f"TF-IDF of {name} ")


def test_fewer_rows_than_a_batch_train(tmp_path: Path):
    recipe = write_tiny(tmp_path, train=7, test=3)
    run = jobs.train(load_recipe(recipe, overrides=["training.batch_size=64"]), out=tmp_path / "run")
    assert run.test is not None and run.test["count"] == 3


def test_a_test_text_in_the_training_data_is_noted(tmp_path: Path):
    recipe = write_tiny(tmp_path)
    write_csv(tmp_path / "test.csv", rows(80, 1)[:2] + [("pos", "lovely great"), ("neg", "nothing like it, dull")][:1])
    run = jobs.train(load_recipe(recipe, overrides=["training.max_epochs=1"]), out=tmp_path / "run")
    assert any("test texts also stand in the training data (the first: test.csv:2)" in note for note in run.notes)


def test_bad_data_fail_before_training_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(TextClassifier, "fit", never)
    recipe = write_tiny(tmp_path)
    write_csv(tmp_path / "test.csv", [("pos", "good"), ("mixed", "so so")])
    with pytest.raises(DataError, match=r"test\.csv:3: the label 'mixed' is not one that the model was trained on"):
        jobs.train(load_recipe(recipe), out=tmp_path / "run")
    (tmp_path / "blocked").touch()
    with pytest.raises(TidegateError, match="the run's folder cannot be written: Not a directory"):
        jobs.train(load_recipe(recipe), out=tmp_path / "blocked" / "run")
    with pytest.raises(RecipeError, match=r"tiny\.yaml:\d+: training\.device: .*'cuda:99'|--set .*'cuda:99'"):
        jobs.train(load_recipe(recipe, overrides=["training.device=cuda:99"]), out=tmp_path / "run")


def test_a_disk_that_fills_up_says_so_and_keeps_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TidegateError, match="No space left on device"):
        jobs.train(load_recipe(folder / "tiny.yaml"), out=tmp_path / "run")
    assert not (tmp_path / "run" / "model.tg").exists()


@pytest.mark.parametrize("full_at", ["model.tg", "metrics.json", "report.html"])
def test_a_disk_that_is_full_after_training_costs_no_epoch(
    run: jobs.Training, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
):
    replace, out = os.replace, tmp_path / "run"

    def full(source: str | Path, target: str | Path) -> None:
        if Path(target).name == full_at:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", full)
    recipe = load_recipe(folder / "tiny.yaml")
    with pytest.raises(TidegateError, match=r"No space left on device.* finish the run with: --resume --out") as caught:
        jobs.train(recipe, out=out)
    assert str(caught.value).endswith(str(out))
    monkeypatch.setattr("os.replace", replace)
    monkeypatch.setattr("tidegate.training.fit._run", None)  # no epoch is trained again
    finished = jobs.train(recipe, out=out, resume=True)
    assert finished.test == run.test
    assert finished.report == out / "report.html"
    assert load_bundle(finished.model).metrics["history"] == json.loads((out / "metrics.json").read_text())["history"]


# --- Ctrl-C and resuming


def test_averages_smoothed_labels_and_given_vectors_survive_resuming_and_saving(folder: Path, tmp_path: Path):
    craft = ["model.embedding_init=cooccurrence", "training.label_smoothing=0.1", "training.ema_decay=0.9"]
    craft += ["output.baseline=false", "output.report=false"]
    whole = jobs.train(load_recipe(folder / "tiny.yaml", overrides=craft), out=tmp_path / "whole")
    first = load_recipe(folder / "tiny.yaml", overrides=[*craft, "training.max_epochs=1"])
    jobs.train(first, out=tmp_path / "parts")
    parts = jobs.train(load_recipe(folder / "tiny.yaml", overrides=craft), out=tmp_path / "parts", resume=True)
    assert parts.test == whole.test
    weights = load_bundle(whole.model).weights
    for name, array in load_bundle(parts.model).weights.items():
        np.testing.assert_array_equal(array, weights[name])
    model = tidegate.load(parts.model)
    assert (model.embedding_init, model.label_smoothing, model.ema_decay) == ("cooccurrence", 0.1, 0.9)
    texts, labels = zip(*((text, label) for label, text in rows(30, 2)), strict=True)
    assert whole.test is not None
    assert np.mean(model.predict(list(texts)) == np.array(labels)) == pytest.approx(whole.test["accuracy"])


def test_ctrl_c_before_the_first_epoch_leaves_no_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TextClassifier, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        jobs.train(load_recipe(folder / "tiny.yaml"), out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


def test_a_run_that_is_terminated_says_how_to_go_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def terminated(*_: Any, **__: Any) -> None:
        raise SIGTERMException

    monkeypatch.setattr(TextClassifier, "fit", terminated)
    with pytest.raises(TidegateError, match=f"terminated from outside; go on .* --resume --out {tmp_path / 'run'}"):
        jobs.train(load_recipe(folder / "tiny.yaml"), out=tmp_path / "run")


def test_ctrl_c_keeps_the_best_so_far_and_resuming_ends_as_an_unbroken_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = load_recipe(folder / "tiny.yaml", overrides=["training.max_epochs=3"])
    whole = jobs.train(recipe, out=tmp_path / "whole")

    from tidegate.training.module import NetworkModule

    steps = 0
    training_step = NetworkModule.training_step

    def interrupt_in_the_second_epoch(self: Any, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return training_step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(NetworkModule, "training_step", interrupt_in_the_second_epoch)
        broken = jobs.train(recipe, out=tmp_path / "broken")
    assert broken.interrupted
    assert (broken.epochs, broken.best_epoch) == (1, 1)
    assert (broken.report, broken.test) == (None, None)
    assert (broken.folder / "checkpoints" / "best.ckpt").is_file()
    assert tidegate.load(broken.model).predict(["good good"]).shape == (1,)

    resumed = jobs.train(recipe, out=broken.folder, resume=True)
    assert not resumed.interrupted
    assert resumed.epochs == 3
    assert resumed.test == whole.test
    for name, array in load_bundle(whole.model).weights.items():
        np.testing.assert_array_equal(array, load_bundle(resumed.model).weights[name])


def test_a_run_resumes_only_with_its_own_settings(run: jobs.Training, folder: Path):
    recipe = load_recipe(folder / "tiny.yaml", overrides=["model.hidden_size=9"])
    with pytest.raises(TidegateError, match="hidden_size was 8 and is 9"):
        jobs.train(recipe, out=run.folder, resume=True)


# --- evaluate


def test_evaluation_gives_the_metrics_of_the_run(run: jobs.Training, folder: Path):
    found = jobs.evaluate(run.model, str(folder / "test.csv"))
    assert found.metrics == run.test
    assert found.data == str(folder / "test.csv")


def test_evaluation_of_one_part_by_columns_of_other_names(run: jobs.Training, tmp_path: Path):
    path = tmp_path / "all.tsv"
    path.write_text("fold\tbody\tmood\n1\tlovely good\tpos\n2\tlovely good\tneg\n2\tgreat good\tpos\n")
    found = jobs.evaluate(run.model, str(path), text="body", label="mood", part="2", split="fold")
    assert found.metrics["count"] == 2
    assert found.metrics["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"data\.csv: the file is empty"),
        ("text,label\n", r"there are no rows"),
        ("text,label\na,pos\nb,mixed\n", r"data\.csv:3: the label 'mixed' is not one that the model was trained on"),
        ("text,label\na,\n", r"data\.csv:2: the label is missing"),
        ("txt,label\na,pos\n", r"there is no column 'text'; found 'txt', 'label'\. Did you mean 'txt'"),
    ],
)
def test_evaluation_of_unusable_data_names_the_place(run: jobs.Training, tmp_path: Path, content: str, message: str):
    path = tmp_path / "data.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        jobs.evaluate(run.model, str(path))


def test_evaluation_on_bundled_data_takes_the_test_part_by_default(run: jobs.Training):
    with pytest.raises(DataError, match=r"reviews_en\.tsv\.gz:\d+: the label '(neg|pos)itive' is not one"):
        jobs.evaluate(run.model, "bundled:reviews_en")
    with pytest.raises(DataError, match=r"Did you mean 'reviews_en'\?"):
        jobs.evaluate(run.model, "bundled:reviews_e")


# --- predict


def test_predictions_come_batch_by_batch(run: jobs.Training):
    texts = [["a lovely good film", ""], ["bad \x00 \ufffd", "good " * 100_000]]
    found = list(jobs.predict(run.model, texts))
    assert [[item.text for item in batch] for batch in found] == texts
    expected = tidegate.load(run.model).predict_proba([text for batch in texts for text in batch])
    for item, row in zip([item for batch in found for item in batch], expected, strict=True):
        assert list(item.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-5)
        assert item.probabilities[str(item.label)] == max(item.probabilities.values())


def test_a_bad_model_fails_before_any_text_is_read(tmp_path: Path):
    def never() -> Iterator[list[str]]:
        raise AssertionError("a text was read")
        yield []

    (tmp_path / "model.tg").write_bytes(b"PK")
    with pytest.raises(BundleError, match=r"model\.tg: expected a tidegate model"):
        jobs.predict(tmp_path / "model.tg", never())


# --- validate


def test_validate_reads_the_first_rows(folder: Path, tmp_path: Path):
    check = jobs.validate(folder / "tiny.yaml", overrides=["model.hidden_size=9"])
    assert check.recipe.arguments["hidden_size"] == 9
    assert check.data == {"train": str(folder / "train.csv"), "test": str(folder / "test.csv")}
    with pytest.raises(DataError, match="no column 'body'"):
        jobs.validate(folder / "tiny.yaml", overrides=["data.text=body"])
