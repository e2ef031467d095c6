from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.data.targets import align_targets, read_target_examples, whole_labels
from tidegate.errors import DataError

KINDS = {"label": "classification", "rating": "regression"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_targets_of_a_table_with_holes(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "text,label,rating\n好 片,1,2.5\nbad,, -1 \nso so,0,\n")
    found = read_target_examples([table], KINDS)
    assert found.texts == ["好 片", "bad", "so so"]
    assert found.targets == {"label": ["1", None, "0"], "rating": [2.5, -1.0, None]}
    assert found.origins == ["a.csv:2", "a.csv:3", "a.csv:4"]
    assert found.counts() == {"label": 2, "rating": 2}
    alone = found.of_task("rating")
    assert (alone.texts, alone.targets, alone.origins) == (
        ["好 片", "bad"],
        {"rating": [2.5, -1.0]},
        ["a.csv:2", "a.csv:3"],
    )


def test_files_of_which_each_has_some_of_the_columns(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", '{"text": "x", "stars": 3}\n{"text": "y", "stars": null}\n')
    second = write(tmp_path / "b.csv", "label,text\ngood,z\n")
    found = read_target_examples([first, second], KINDS, columns={"rating": "stars"})
    assert found.targets == {"label": [None, None, "good"], "rating": [3.0, None, None]}
    assert found.origins == ["a.jsonl:1", "a.jsonl:2", "b.csv:2"]


def test_the_parts_of_one_file(tmp_path: Path) -> None:
    table = write(tmp_path / "a.tsv", "split\ttext\tlabel\trating\ntrain\ta\tx\t1\ntest\tb\ty\t2\nvalid\tc\tx\t3\n")
    found = read_target_examples([table], KINDS, split="split", parts=["valid", "test"])
    assert found.texts == ["b", "c"] and found.targets["rating"] == [2.0, 3.0]


def test_whole_labels_are_numbers_where_all_are() -> None:
    assert whole_labels(["1", None, "-2"]) == [1, None, -2]
    assert whole_labels(["1", None, "x"]) == ["1", None, "x"]
    assert whole_labels(["01", "2"]) == ["01", "2"]


def test_labels_become_those_of_the_model(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "text,label,rating\nx,1,2.5\ny,,1\n")
    examples = read_target_examples([table], KINDS)
    assert align_targets(examples, {"label": [0, 1], "rating": None}).targets == {
        "label": [1, None],
        "rating": [2.5, 1.0],
    }
    with pytest.raises(DataError, match=r"a.csv:2: the label '1' is none that the task 'label' was trained on \('l', "):
        align_targets(examples, {"label": ["l", "m"], "rating": None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,lable,rating\nx,1,2\n", "no column 'label', which has the targets of the task 'label'; found 'text', "),
        ("text,lable,rating\nx,1,2\n", "Did you mean 'lable'"),
        ("texts,label,rating\nx,1,2\n", "a.csv:2: there is no column 'text'; found 'texts', .* Did you mean 'texts'"),
        ("text,label,rating\nx,1,two\n", "a.csv:2: expected a finite number in column 'rating', found 'two'"),
        ("text,label,rating\nx,1,nan\n", "a.csv:2: expected a finite number in column 'rating', found 'nan'"),
        ("text,label,rating\n", "there are no rows"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_target_examples([write(tmp_path / "a.csv", content)], KINDS)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    for value in ("true", '"x"', "[1]", "1e999"):
        path = write(tmp_path / "a.jsonl", f'{{"text": "x", "label": "a", "rating": {value}}}\n')
        with pytest.raises(DataError, match=r"a\.jsonl:1: expected a finite number"):
            read_target_examples([path], KINDS)
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": 0.5, "rating": 1}\n')
    with pytest.raises(DataError, match="expected a text or a whole number as label in column 'label'"):
        read_target_examples([path], KINDS)
