from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tidegate
from tidegate import jobs
from tidegate.cli import app
from tidegate.config import load_recipe
from tidegate.data.tagged import read_tagged
from tidegate.errors import DataError, RecipeError
from tiny_tags import conll, tiny_sentences

RECIPE = """\
task: sequence-tagging
data:
  train: train.conll
  validation: valid.conll
  test: test.conll
model:
  embedding_size: 16
  char_embedding_size: 8
  char_hidden_size: 8
  hidden_size: 16
training:
  learning_rate: 0.02
  max_epochs: 4
  random_state: 0
  device: cpu
  verbose: false
output:
  title: Tiny names
  try: [Ada went to New York., Zoë met Bo.]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    for seed, (name, count) in enumerate([("train", 150), ("valid", 30), ("test", 30)]):
        sentences, tags, _ = tiny_sentences(count, seed)
        (folder / f"{name}.conll").write_text(conll(sentences, tags), encoding="utf-8")
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> jobs.Training:
    return jobs.train(load_recipe(folder / "tiny.yaml"), out=folder / "run")


def call(*words: str, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), input=None if stdin is None else stdin.encode())
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.decode("utf-8")


def test_a_run_leaves_model_report_and_metrics(run: jobs.Training):
    assert run.test is not None and run.test["f1"] > 0.9
    assert run.validation_f1 is not None and run.validation_f1 > 0.9
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
    metrics = json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["f1"] == run.test["f1"]
    assert metrics["counts"] == {"train": 150, "validation": 30, "test": 30}
    assert set(metrics["class_counts"]["train"]) == {"PER", "LOC"}
    assert metrics["inspection"] == [] or len(metrics["inspection"]) > 1
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Tiny names" in page and "test F1 of segments" in page and "Transitions" in page
    assert [item.entities[0]["text"] for item in run.predictions] == ["Ada", "Zoë"]
    assert any("also stand in the training data" in note for note in run.notes)


def test_the_resolved_recipe_repeats_the_run(run: jobs.Training, folder: Path):
    again = load_recipe(run.folder / "recipe.yaml")
    assert again.task == "sequence-tagging"
    repeated = jobs.train(again, out=folder / "again")
    assert repeated.test == run.test


def test_evaluate_gives_the_result_of_the_run_in_any_scheme(run: jobs.Training, folder: Path):
    examples = read_tagged(folder / "test.conll")
    assert jobs.evaluate(run.model, str(folder / "test.conll")).metrics == run.test
    from tidegate.data.tag_schemes import convert_tags

    other = folder / "bioes.conll"
    other.write_text(conll(examples.sentences, [convert_tags(t, "bio", "bioes") for t in examples.tags or []]))
    metrics = jobs.evaluate(run.model, str(other)).metrics
    assert run.test is not None
    assert (metrics["f1"], metrics["accuracy"]) == (run.test["f1"], run.test["accuracy"])
    printed = call("evaluate", str(run.model), str(folder / "test.conll"), "--tag-column", "1", "--json")
    assert json.loads(printed)["metrics"]["f1"] == run.test["f1"]
    assert "F1 " in call("evaluate", str(run.model), str(folder / "test.conll"))


def test_an_unseen_tag_at_evaluation_is_reported_and_counts_as_an_error(run: jobs.Training, folder: Path):
    text = (folder / "test.conll").read_text(encoding="utf-8")
    (folder / "unseen.conll").write_text(text + "\nAcme B-ORG\n", encoding="utf-8")
    metrics = jobs.evaluate(run.model, str(folder / "unseen.conll")).metrics
    assert metrics["unseen"] == {"ORG": 1}
    (row,) = [row for row in metrics["per_type"] if row["label"] == "ORG"]
    assert (row["recall"], row["support"]) == (0.0, 1)
    # In the test part of a recipe the run says so.
    recipe = load_recipe(folder / "tiny.yaml", overrides=["data.test=unseen.conll", "training.max_epochs=1"])
    notes = jobs.train(recipe, out=folder / "unseen").notes
    assert any(
        "1 tags of the test sentences are not in the training data" in note and "B-ORG" in note for note in notes
    )


def test_illegal_tags_are_reported_with_their_line(folder: Path):
    text = (folder / "train.conll").read_text(encoding="utf-8")
    (folder / "illegal.conll").write_text(text + "\nmet I-LOC\n", encoding="utf-8")
    line = len(text.splitlines()) + 2
    recipe = load_recipe(folder / "tiny.yaml", overrides=["data.train=illegal.conll", "training.max_epochs=1"])
    notes = jobs.train(recipe, out=folder / "illegal").notes
    expected = f"1 of 151 train sentences have tags that BIO does not allow (the first: illegal.conll:{line})"
    assert expected in notes
    assert any("they were read as conlleval reads them" in note for note in notes)


def test_predict_prints_entities_with_their_places(run: jobs.Training):
    text = "\tZoë went to New  York. "
    (line,) = call("predict", str(run.model), "--json", stdin=text + "\n").splitlines()
    record = json.loads(line)
    assert record["text"] == text
    found = {entity["text"]: entity for entity in record["entities"]}
    assert found["New  York"]["type"] == "LOC"
    for entity in record["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert 0 < entity["confidence"] <= 1
    assert call("predict", str(run.model), stdin="Zoë met Bo.\n\n") == "[Zoë PER] met [Bo PER].\n\n"


def test_predict_counts_characters_whatever_they_are(run: jobs.Training):
    text = "👩🏽‍🚀 Zoë met\u2028Bo in\x0c New  York.\x85 \u00a0e\u0301"
    line, rest = call("predict", str(run.model), "--json", stdin=text + "\n").split("\n")
    record = json.loads(line)
    assert record["text"] == text and rest == ""
    assert {"Zoë", "Bo"} <= {entity["text"] for entity in record["entities"]}
    for entity in record["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]


@pytest.mark.parametrize(("unit", "plain"), [("words", True), ("characters", False), ("tagged-characters", False)])
def test_word_and_tag_lines(tmp_path: Path, unit: str, plain: bool):
    lines = ["我/r  爱/v  北京/ns", "他/r  在/p  北京/ns", "北京/ns  很/d  大/a"] * 8
    (tmp_path / "all.txt").write_text("\n".join(lines), encoding="utf-8")
    recipe = RECIPE.replace("  train: train.conll\n  validation: valid.conll\n  test: test.conll\n", "")
    recipe = recipe.replace("data:", f"data: {{source: all.txt, format: word/tag, unit: {unit}, test_share: 0.25}}")
    recipe = recipe.replace("max_epochs: 4", "max_epochs: 12\n  batch_size: 4\n  validation_fraction: 0.2")
    recipe = recipe.replace("model:", "text: {tokenizer: characters}\nmodel:").replace(
        "[Ada went to New York., Zoë met Bo.]", "[我在北京]"
    )
    (tmp_path / "r.yaml").write_text(recipe, encoding="utf-8")
    run = jobs.train(load_recipe(tmp_path / "r.yaml"), out=tmp_path / "run")
    assert run.test is not None and run.test["count"] == 6
    assert run.test["f1"] > 0.8
    model = tidegate.load(run.model)
    assert (model.tag_scheme_ == "plain") == plain
    printed = call("predict", str(run.model), stdin="我在北京\n").strip()
    if unit == "characters":
        assert printed == "我  在  北京"
    else:
        assert printed.count("/") >= 1 or printed.count("[") >= 1


def test_slots_with_intents(tmp_path: Path):
    for seed, (name, count) in enumerate([("train", 150), ("valid", 20), ("test", 20)]):
        rows = zip(*tiny_sentences(count, seed), strict=True)
        lines = [json.dumps({"tokens": t, "slots": s, "intent": i}) for t, s, i in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    recipe = RECIPE.replace(".conll", ".jsonl")
    (tmp_path / "r.yaml").write_text(recipe)
    run = jobs.train(load_recipe(tmp_path / "r.yaml"), out=tmp_path / "run")
    assert run.test is not None and run.test["intent_accuracy"] > 0.9
    assert run.test["joint_accuracy"] <= min(run.test["intent_accuracy"], run.test["sentence_accuracy"])
    record = json.loads(call("predict", str(run.model), "--json", stdin="Bo went to Rome .\n"))
    assert record["intent"] == "go"
    assert call("predict", str(run.model), stdin="Bo met Ada .\n").startswith("meet\t[Bo PER]")
    without = jobs.train(load_recipe(tmp_path / "r.yaml", overrides=["data.intents=false"]), out=tmp_path / "run2")
    assert without.test is not None and "intent_accuracy" not in without.test


# --- what goes wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.conll": "tain.conll"}, r"data.train: expected a file or folder, found none at .* Did you mean"),
        ({"  test: test.conll\n": "  test_share: 0.2\n"}, "data.test_share has no effect: it says which part"),
        ({"  train: train.conll\n": "  train: train.conll\n  source: a.txt\n"}, "either source or train, found both"),
        (
            {"  train: train.conll\n": "  train: train.conll\n  tagcolumn: 3\n"},
            "unknown key. Did you mean 'tag_column'",
        ),
        ({"hidden_size: 16\ntr": "pooling: last\ntr"}, "model.pooling: unknown key"),
        ({"task: sequence-tagging": "task: sequence-taging"}, "Did you mean 'sequence-tagging'"),
        ({"max_epochs: 4": "validation_fraction: 0.1"}, "the data have a validation part"),
        ({"  train: train.conll\n": "  train: train.conll\n  encoding: utf-9\n"}, "no such encoding"),
    ],
)
def test_recipes_that_do_not_fit(folder: Path, change: dict[str, str], message: str):
    text = RECIPE
    for old, new in change.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a B-X\nb O x\n", r"train\.conll:2: expected 2 columns, as most lines have, found 3"),
        ("a\nb\n", "the train sentences have no tags"),
        ("", "there is no sentence|empty"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, content: str, message: str):
    (tmp_path / "train.conll").write_text(content)
    (tmp_path / "r.yaml").write_text("task: sequence-tagging\ndata: {train: train.conll}\n")
    with pytest.raises(DataError, match=message):
        jobs.validate(tmp_path / "r.yaml")


def test_options_without_effect_are_refused(run: jobs.Training, folder: Path):
    data = str(folder / "test.conll")
    options: list[tuple[dict[str, Any], str]] = [
        ({"text": "x"}, "text= has no effect on tagged sentences"),
        ({"part": "test"}, "part='test' has no effect"),
        ({"unit": "words"}, "unit='words' has no effect on the format 'conll'"),
    ]
    for given, message in options:
        with pytest.raises(DataError, match=message):
            jobs.evaluate(run.model, data, **given)
    (folder / "pos.conll").write_text("Ada NNP\nmet VBD\n")
    with pytest.raises(DataError, match="the model tags segments"):
        jobs.evaluate(run.model, str(folder / "pos.conll"))


def test_the_small_data_that_ship_are_those_of_their_readme():
    from tidegate.data.bundled import tagged_path
    from tidegate.jobs.tagging_data import read_bundled

    listed = (tagged_path("people_daily", "train").parent / "README.md").read_text(encoding="utf-8")
    for part, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        words, letters = (read_bundled("people_daily", part, unit) for unit in ("words", "characters"))
        row = f"people_daily.{name}.txt.gz | {len(words):,} | {words.num_tokens:,} | {letters.num_tokens:,} |"
        assert row in listed
    with pytest.raises(DataError, match="Did you mean 'people_daily'"):
        tagged_path("peoples_daily", "train")
