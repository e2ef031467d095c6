from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidegate.config import find_recipe, load_recipe, shipped_recipes
from tidegate.errors import RecipeError
from tidegate.schema.located_yaml import parse_document
from tidegate.schema.tasks import TASKS, section_keys

GOOD = """\
task: text-classification
data:
  train: train.csv
  test: test.csv
model:
  hidden_size: 8
training:
  learning_rate: 1e-3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    (tmp_path / "recipe.yaml").write_text(GOOD)
    return tmp_path


def problems(folder: Path, text: str, **options: Any) -> list[str]:
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(folder / "recipe.yaml", **options)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


# --- what is read


def test_only_the_keys_that_stand_there_are_passed(folder: Path):
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.arguments == {"hidden_size": 8, "learning_rate": 0.001}
    assert recipe.data_path("train") == folder / "train.csv"
    assert recipe.data_path("validation") is None
    assert recipe.bundled is None
    assert recipe.name == "recipe"
    output = recipe.sections.output
    assert (output.report, output.baseline, output.title, output.try_) == (True, None, None, [])


def test_null_is_passed_where_the_estimator_takes_none(folder: Path):
    recipe = load_recipe(folder / "recipe.yaml", overrides=["text.max_tokens=null", "text.normalization=~"])
    assert recipe.arguments["max_tokens"] is None
    assert recipe.arguments["normalization"] is None


def test_data_dir_goes_over_the_folder_of_the_recipe(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    other.write_text(GOOD)
    assert load_recipe(other, data_dir=folder).data_path("test") == folder / "test.csv"


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("model.hidden_size=256", "model", "hidden_size", 256),
        ("text.tokenizer=characters", "text", "tokenizer", "characters"),
        ("training.learning_rate=1e-2", "training", "learning_rate", 0.01),
        ("model.bidirectional=false", "model", "bidirectional", False),
    ],
)
def test_overrides_are_yaml_values(folder: Path, override: str, section: str, key: str, value: object):
    recipe = load_recipe(folder / "recipe.yaml", overrides=["model.hidden_size=3", override])
    assert getattr(recipe.sections, section)[key] == value
    assert recipe.sections.training["learning_rate"] == (value if key == "learning_rate" else 0.001)


def test_overrides_of_output(folder: Path):
    overrides = ["output.try=[good, 不好]", "output.baseline={tokenizer: characters}", "output.title=a = b"]
    output = load_recipe(folder / "recipe.yaml", overrides=overrides).sections.output
    assert output.try_ == ["good", "不好"]
    assert output.baseline == {"tokenizer": "characters"}
    assert output.title == "a = b"
    output = load_recipe(
        folder / "recipe.yaml", overrides=["output.baseline=true", "output.report=false"]
    ).sections.output
    assert (output.baseline, output.report) == ({}, False)


def test_the_resolved_recipe_repeats_the_run(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    recipe = load_recipe(folder / "recipe.yaml", overrides=["output.baseline=true", "output.title=no"])
    arguments = {"tokenizer": "words", "max_tokens": None, "hidden_size": 8, "learning_rate": 1e-5, "random_state": 3}
    text = recipe.resolved(arguments)
    path = tmp_path_factory.mktemp("run") / "recipe.yaml"
    path.write_text(text)
    again = load_recipe(path)
    assert again.arguments == arguments
    assert again.data_path("train") == folder / "train.csv"
    assert again.sections.output.title == "no"
    assert again.sections.output.baseline == {}
    assert again.resolved(again.arguments) == text
    assert parse_document(text, "f").value["training"] == {"learning_rate": 1e-5, "random_state": 3}


def test_the_resolved_recipe_leaves_out_a_fraction_that_has_no_effect(folder: Path):
    recipe = load_recipe("sentiment_en")
    resolved = parse_document(recipe.resolved({"validation_fraction": 0.1, "patience": 3}), "f").value
    assert resolved["training"] == {"patience": 3}
    assert resolved["data"] == {"source": "bundled:reviews_en"}
    (folder / "recipe.yaml").write_text(GOOD)
    resolved = parse_document(load_recipe(folder / "recipe.yaml").resolved({"validation_fraction": 0.2}), "f").value
    assert resolved["training"] == {"validation_fraction": 0.2}


# --- the recipes that ship


def test_every_shipped_recipe_is_valid_and_opens_with_its_command():
    recipes = shipped_recipes()
    assert set(recipes) >= {"sentiment_en", "sentiment_zh", "imdb"}
    for name, path in recipes.items():
        comment = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        assert all(line.startswith("#") for line in comment)
        assert any(line.startswith(f"#   tidegate train {name}") for line in comment)
        recipe = load_recipe(name, check_files=False)
        assert recipe.path == path
        assert len(recipe.sections.output.try_) == 3


def test_a_file_goes_before_a_shipped_recipe_of_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    Path("sentiment_en").write_text(GOOD)
    assert find_recipe("sentiment_en") == Path("sentiment_en")


# --- what is refused


def test_every_error_stands_in_one_message_in_the_order_of_the_file(folder: Path):
    text = """\
task: text-clasification
data: {source: bundled:reviews_en, train: 3}
text:
  tokenizer: word
  max_tokens: 1.5
  normalization: 3
model:
  hiden_size: 4
  batch_size: 3
  dropout: 1.5
  bidirectional: yes
  num_layers: 0
training: [1]
output:
  try: hello
  baseline: {tokeniser: words}
extra: 1
"""
    found = problems(folder, text)
    legal = ", ".join(section_keys("model"))
    *tasks, last = TASKS
    assert found == [
        f"recipe.yaml:1: task: expected {', '.join(tasks)} or {last}, found the text 'text-clasification'. "
        "Did you mean 'text-classification'?",
        "recipe.yaml:2: data.train: expected a text, found the number 3.",
        "recipe.yaml:4: text.tokenizer: expected words, characters, bpe or jieba, found the text 'word'. "
        "Did you mean 'words'?",
        "recipe.yaml:5: text.max_tokens: expected a whole number or null, found the number 1.5.",
        "recipe.yaml:6: text.normalization: expected NFKC, NFC, NFD, NFKD or null, found the number 3.",
        "recipe.yaml:8: model.hiden_size: unknown key. Did you mean 'hidden_size'? "
        f"Legal keys of the section 'model': {legal}.",
        "recipe.yaml:9: model.batch_size: unknown key. It belongs in the section 'training'. "
        f"Legal keys of the section 'model': {legal}.",
        "recipe.yaml:10: model.dropout: expected a number less than 1.0, found the number 1.5.",
        "recipe.yaml:11: model.bidirectional: expected true or false, found the text 'yes'.",
        "recipe.yaml:12: model.num_layers: expected a number of at least 1, found the number 0.",
        "recipe.yaml:13: training: expected a section (keys with values), found a list.",
        "recipe.yaml:15: output.try: expected a list, found the text 'hello'.",
        "recipe.yaml:16: output.baseline.tokeniser: unknown key. Did you mean 'tokenizer'? "
        "Legal keys of the section 'output.baseline': tokenizer.",
        "recipe.yaml:17: extra: unknown key. Did you mean 'text'? "
        "Legal keys of a recipe: task, data, text, model, training, output.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe.yaml: the recipe is empty; expected the sections task, data, text, model, training, output."),
        ("# only a comment\n", "recipe.yaml: the recipe is empty"),
        ("just words", "recipe.yaml:1: expected sections (task, data,"),
        ("- a\n- b\n", "recipe.yaml:1: expected sections"),
        ("data: {train: train.csv}", "recipe.yaml:1: the key task is missing. Write: task: text-classification"),
        ("task: text-classification", "recipe.yaml:1: the key data is missing. Write for example: data:"),
        ("task: text-classification\ndata:\n", "recipe.yaml:2: data: expected a section (keys with values), found no"),
        (
            GOOD + "output:\n  baseline: 3\n",
            "recipe.yaml:10: output.baseline: expected true, false or a section, found",
        ),
        (GOOD + "output:\n  try: [a, 3]\n", "recipe.yaml:10: output.try[1]: expected a text, or two for a pair"),
        (GOOD.replace("1e-3", ".nan"), "recipe.yaml:8: training.learning_rate: expected a"),
        (GOOD.replace("1e-3", "0"), "recipe.yaml:8: training.learning_rate: expected a number greater than 0"),
        (GOOD.replace("8", "'8'"), "recipe.yaml:6: model.hidden_size: expected a whole number, found the text '8'."),
        (GOOD.replace("8", "true"), "recipe.yaml:6: model.hidden_size: expected a whole number, found true."),
        (GOOD + "model:\n  cell: gru\n", "recipe.yaml:9: the key model is repeated; it first stands at recipe.yaml:5."),
    ],
)
def test_errors_name_place_expectation_and_finding(folder: Path, text: str, message: str):
    found = problems(folder, text)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{text: a}", "data: expected either source or train, found neither."),
        ("{source: a.csv, train: train.csv}", "data: expected either source or train, found both."),
        ("{source: train.csv, test: test.csv}", "data.test has no effect: data.source brings its own. Remove it."),
        ("{source: bundled:reviews_en, label: x}", "data.label has no effect: the bundled data bring their own."),
        ("{train: train.csv, split: part}", "data.split has no effect: data.train and its fellows are the splits."),
        ("{source: bundled:reviews_e}", "data.source: there is no bundled data set 'reviews_e'; there are"),
        (
            "{source: bundled:reviews_en, delimiter: ;}",
            "data.delimiter has no effect: the bundled data",
        ),
        ("{source: bundled:reviews_en, quote: null}", "data.quote has no effect: the bundled data bring their own."),
        ("{source: bundled:reviews_en, encoding: big5}", "data.encoding has no effect: the bundled data bring"),
        (
            "{source: bundled:reviews_en, errors: strict}",
            "data.errors has no effect: the bundled data",
        ),
        ("{source: bundled:reviews_en, header: [a]}", "data.header has no effect: the bundled data bring their own."),
        ("{train: a.jsonl, delimiter: ;}", "data.delimiter has no effect: it says how CSV and TSV files are read, and"),
        ("{train: a.jsonl.gz, test: folder, header: [a]}", "data.header has no effect: it says how CSV and TSV files"),
        ("{train: train.csv, delimiter: ;;}", "data.delimiter: expected one character, found the text ';;'."),
        ("{train: train.csv, quote: ''}", "data.quote: expected one character or null, found the text ''."),
        ("{train: train.csv, header: []}", "data.header: expected the names of the columns, found a list."),
        ("{train: train.csv, errors: replaced}", "data.errors: expected strict, replace, ignore, backslashreplace or"),
        ("{train: train.csv, encoding: gb18031}", "data.encoding: encoding='gb18031': Python knows no such encoding;"),
        ("{train: trian.csv}", "data.train: expected a file or folder, found none at"),
    ],
)
def test_data_that_contradict_themselves_are_refused(folder: Path, data: str, message: str):
    found = problems(folder, f"task: text-classification\ndata: {data}\n")
    assert len(found) == 1
    assert found[0].startswith(f"recipe.yaml:2: {message}")


def test_missing_data_files_name_the_nearest(folder: Path):
    found = problems(folder, GOOD.replace("train.csv", "trian.csv").replace("test.csv", "tset.csv"))
    assert "Did you mean 'train.csv'?" in found[0]
    assert "Did you mean 'test.csv'?" in found[1]
    assert "--data-dir names another folder" in found[0]
    (folder / "recipe.yaml").write_text(GOOD.replace("train.csv", "trian.csv"))
    assert load_recipe(folder / "recipe.yaml", check_files=False).data_path("train") == folder / "trian.csv"


def test_a_validation_fraction_beside_validation_data_is_refused(folder: Path):
    found = problems(folder, GOOD.replace("  test:", "  validation:") + "  validation_fraction: 0.2\n")
    assert found[0].startswith("recipe.yaml:9: training.validation_fraction has no effect")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.hiden_size=256", "unknown key. Did you mean 'hidden_size'?"),
        ("model.hidden_size=abc", "model.hidden_size: expected a whole number, found the text 'abc'."),
        ("model.hidden_size=", "model.hidden_size: expected a whole number, found nothing (null)."),
        ("training.device=gpu", "training.device: expected auto, cpu or cuda, found the text 'gpu'."),
        ("model.hidden_size", "expected SECTION.KEY=VALUE, as in model.hidden_size=256."),
        ("=3", "expected SECTION.KEY=VALUE"),
        ("model..cell=gru", "expected SECTION.KEY=VALUE"),
        ("modle.cell=gru", "modle: unknown key. Did you mean 'model'?"),
        ("task.x=2", "task is the text 'text-classification', which has no keys."),
        ("output.try=[a", "this is not YAML"),
        ("output.title=a: b: c", "this is not YAML"),
        ("data.train=none.csv", "data.train: expected a file or folder, found none"),
    ],
)
def test_errors_of_overrides_name_the_override(folder: Path, override: str, message: str):
    found = problems(folder, GOOD, overrides=["model.num_layers=2", override])
    assert len(found) == 1
    assert found[0].startswith(f"--set {override}: ")
    assert message in found[0]


def test_a_recipe_that_is_not_there_names_the_nearest(folder: Path):
    with pytest.raises(RecipeError, match=r"recipe\.yml: no such recipe\. Did you mean 'recipe\.yaml'\?"):
        load_recipe(folder / "recipe.yml")
    with pytest.raises(RecipeError, match=r"Did you mean 'sentiment_en'\?"):
        load_recipe("sentiment_eng")
    with pytest.raises(RecipeError, match="found a folder"):
        load_recipe(folder)
