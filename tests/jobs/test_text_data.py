from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.config import Recipe, load_recipe
from tidegate.errors import DataError
from tidegate.jobs.text_data import check_first_rows, data_notes, read_splits


def recipe_of(folder: Path, data: str, **files: str) -> Recipe:
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content, encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(f"task: text-classification\ndata: {data}\n")
    return load_recipe(path)


TWO = "text,label\ngood film,pos\nbad film,neg\n"


def test_files_become_parts(tmp_path: Path):
    recipe = recipe_of(
        tmp_path, "{train: a.csv, validation: b.csv, test: c.csv}", a=TWO, b=TWO, c="text,label\nx,pos\n"
    )
    splits = read_splits(recipe)
    assert {name: len(part) for name, part in splits.parts().items()} == {"train": 2, "validation": 2, "test": 1}
    assert splits.train.labels == ["pos", "neg"]
    assert splits.test is not None and splits.test.origins == ["c.csv:2"]


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_one_file_with_a_split_column_becomes_parts(tmp_path: Path, name: str):
    rows = f"part,body,stars\ntrain,a,1\ntest,b,2\n{name},c,1\ntrain,d,2\nunused,e,3\n"
    splits = read_splits(recipe_of(tmp_path, "{source: a.csv, split: part, text: body, label: stars}", a=rows))
    assert splits.train.texts == ["a", "d"]
    assert splits.train.labels == [1, 2]
    assert splits.validation is not None and splits.validation.texts == ["c"]
    assert splits.test is not None and splits.test.texts == ["b"]


def test_one_file_may_lack_validation_and_test_but_not_train(tmp_path: Path):
    splits = read_splits(recipe_of(tmp_path, "{source: a.csv}", a="split,text,label\ntrain,a,x\ntrain,b,y\n"))
    assert list(splits.parts()) == ["train"]
    with pytest.raises(DataError, match=r"no row has 'train' in column 'split'; found 'test' \(1 rows\)"):
        read_splits(recipe_of(tmp_path, "{source: a.csv}", a="split,text,label\ntest,a,x\n"))


@pytest.mark.parametrize(("language", "counts"), [("en", [8056, 1007, 1007]), ("zh", [9600, 1200, 1200])])
def test_bundled_data_have_three_parts(tmp_path: Path, language: str, counts: list[int]):
    splits = read_splits(recipe_of(tmp_path, f"{{source: bundled:reviews_{language}}}"))
    assert [len(part) for part in splits.parts().values()] == counts
    assert set(splits.train.labels or []) == {"negative", "positive"}


def test_labels_of_the_test_part_become_those_of_the_training_part(tmp_path: Path):
    # A file whose labels are all whole numbers gives ints; beside a training file with texts they are texts.
    train = "text,label\na,1\nb,2\nc,none\n"
    splits = read_splits(recipe_of(tmp_path, "{train: a.csv, test: b.csv}", a=train, b="text,label\nd,2\n"))
    assert splits.train.labels == ["1", "2", "none"]
    assert splits.test is not None and splits.test.labels == ["2"]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("", TWO, r"train\.csv: the file is empty"),
        ("text,label\n", TWO, r"train\.csv: there are no rows"),
        ("text,label\na,pos\nb,pos\n", TWO, r"two classes at least; all 2 have the label 'pos'"),
        (TWO, "text,label\nx,pos\ny,neutral\n", r"test\.csv:3: the label 'neutral' is not one that the model was"),
        ("text,label\na,pos\nb,\n", TWO, r"train\.csv:3: the label is missing"),
        ("body,label\na,pos\n", TWO, r"there is no column 'text'; found 'body', 'label'"),
        ("text,label\na\0,pos\n", TWO, r"train\.csv:2: found a NUL byte"),
    ],
)
def test_unusable_data_are_refused_before_training(tmp_path: Path, train: str, test: str, message: str):
    recipe = recipe_of(tmp_path, "{train: train.csv, test: test.csv}", train=train, test=test)
    with pytest.raises(DataError, match=message):
        read_splits(recipe)


def test_twins_and_empty_texts_are_noted(tmp_path: Path):
    train = "text,label\nGood  film,pos\nbad,neg\n,neg\n"
    test = "text,label\nnew,pos\ngood film,pos\nBAD,neg\n"
    notes = data_notes(read_splits(recipe_of(tmp_path, "{train: a.csv, test: b.csv}", a=train, b=test)))
    assert notes == [
        "1 of 3 train texts are empty (the first: a.csv:4)",
        "2 of 3 test texts also stand in the training data (the first: b.csv:3); the result on them says nothing of "
        "new texts",
    ]
    apart = read_splits(recipe_of(tmp_path, "{train: a.csv, test: b.csv}", a=TWO, b="text,label\nnew,pos\n"))
    assert data_notes(apart) == []


def test_the_first_rows_show_missing_columns_and_rows(tmp_path: Path):
    recipe = recipe_of(tmp_path, "{train: a.csv, test: b.csv}", a=TWO, b=TWO)
    assert check_first_rows(recipe) == {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}
    with pytest.raises(DataError, match=r"b\.csv:1: there is no column 'text'; found 'texts', 'label'.*'texts'"):
        check_first_rows(recipe_of(tmp_path, "{train: a.csv, test: b.csv}", a=TWO, b="texts,label\na,b\n"))
    with pytest.raises(DataError, match=r"a\.csv: there are no rows"):
        check_first_rows(recipe_of(tmp_path, "{train: a.csv}", a="text,label\n"))
    with pytest.raises(DataError, match="no column 'split'"):
        check_first_rows(recipe_of(tmp_path, "{source: a.csv}", a=TWO))
    assert check_first_rows(load_recipe("sentiment_en")) == {"source": "bundled:reviews_en"}


def test_the_recipe_says_how_all_of_its_files_are_read(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(
        "好看;'很好;真的'\n难看;差\n".encode("gb18030") + b"\xff;" + "差\n".encode("gb18030")
    )
    (tmp_path / "b.csv").write_bytes("还行;差\n".encode("gb18030"))
    how = 'delimiter: ;, quote: "\'", encoding: gb18030, errors: replace, header: [text, label]'
    recipe = recipe_of(tmp_path, f"{{train: a.csv, test: b.csv, {how}}}")
    splits = read_splits(recipe)
    assert splits.train.texts == ["好看", "难看", "\ufffd"]
    assert splits.train.labels == ["很好;真的", "差", "差"]
    assert splits.test is not None and (splits.test.texts, splits.test.labels) == (["还行"], ["差"])
    assert check_first_rows(recipe) == {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.resolved({}), encoding="utf-8")
    assert read_splits(load_recipe(resolved)) == splits


def test_one_file_of_parts_is_read_as_the_recipe_says(tmp_path: Path):
    content = 'split|text|label\ntrain|"a|x\ntrain|b"|y\ntest|c|y\n'
    splits = read_splits(recipe_of(tmp_path, "{source: a.csv, delimiter: '|', quote: null}", a=content))
    assert splits.train.texts == ['"a', 'b"']
    assert splits.test is not None and splits.test.texts == ["c"]


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        ("text,label\n好,x\n".encode("gb18030"), "data.encoding, data.errors"),
        ("text;label\n好;x\n".encode(), "data.delimiter"),
        (b'text,label\n"a,x\n', "data.quote"),
    ],
)
def test_errors_of_reading_name_the_keys_of_the_recipe(tmp_path: Path, content: bytes, keys: str):
    (tmp_path / "a.csv").write_bytes(content)
    recipe = recipe_of(tmp_path, "{train: a.csv}")
    for read in (read_splits, check_first_rows):
        with pytest.raises(DataError) as caught:
            read(recipe)
        assert str(caught.value).endswith(f" (In the recipe: {keys}.)")
        assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}:")
