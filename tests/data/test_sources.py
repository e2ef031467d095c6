from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.data.sources import TextExamples, align_labels, duplicated_texts, read_text_examples
from tidegate.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_texts_labels_and_origins(tmp_path):
    path = write(tmp_path / "a.csv", "id,label,text\n1, pos ,好 看\n2,neg,\n3,pos,c\n")
    assert read_text_examples(path) == TextExamples(
        ["好 看", "", "c"], ["pos", "neg", "pos"], ["a.csv:2", "a.csv:3", "a.csv:4"]
    )
    assert read_text_examples(str(path), text="id", label=None) == TextExamples(
        ["1", "2", "3"], None, ["a.csv:2", "a.csv:3", "a.csv:4"]
    )


def test_select_keeps_order_and_repeats():
    examples = TextExamples(["a", "b", "c"], [1, 2, 3], ["f:1", "f:2", "f:3"])
    assert examples.select([2, 0, 2]) == TextExamples(["c", "a", "c"], [3, 1, 3], ["f:3", "f:1", "f:3"])
    assert TextExamples(["a"], None, ["f:1"]).select([0]).labels is None
    assert len(examples) == 3


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["1", "0", "-3"], [1, 0, -3]),
        (["1", "x", "2"], ["1", "x", "2"]),
        (["01", "2"], ["01", "2"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["123456789012345678901", "1"], ["123456789012345678901", "1"]),
        (["一", "二"], ["一", "二"]),
        (["-0", "0"], ["-0", "0"]),
    ],
)
def test_labels_become_int_only_all_together(tmp_path, written, labels):
    rows = "".join(f"{value},t\n" for value in written)
    assert read_text_examples(write(tmp_path / "a.csv", "label,text\n" + rows)).labels == labels


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ("1 0 1", [1, 0, 1]),
        ('1 "0" 1', [1, 0, 1]),
        ('1 "x" 1', ["1", "x", "1"]),
        ("true false true", [1, 0, 1]),
        ("1.0 2 3e0", [1, 2, 3]),
    ],
)
def test_json_labels_agree_with_csv_labels(tmp_path, values, labels):
    lines = "".join(f'{{"text": "t", "label": {value}}}\n' for value in values.split())
    found = read_text_examples(write(tmp_path / "a.jsonl", lines)).labels
    assert found == labels
    assert [type(label) for label in found or []] == [type(label) for label in labels]


def test_frames_of_either_kind():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    columns = {"review": ["a", "一", ""], "class": ["x", "y", "x"]}
    expected = TextExamples(["a", "一", ""], ["x", "y", "x"], ["frame row 0", "frame row 1", "frame row 2"])
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns), pandas.DataFrame(columns).astype("category")):
        assert read_text_examples(frame, text="review", label="class") == expected
    labelled = pandas.DataFrame({"text": ["a", "b"], "label": [1.0, 2.0]})
    assert read_text_examples(labelled).labels == [1, 2]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("text", None, r"frame row 1: the text is missing .*fillna"),
        ("text", float("nan"), "frame row 1: the text is missing"),
        ("text", 3, "frame row 1: expected a text in column 'text', found int 3"),
        ("label", None, "frame row 1: the label is missing"),
        ("label", float("nan"), "frame row 1: the label is missing"),
        ("label", 0.5, "frame row 1: expected a text or a whole number as label in column 'label', found float 0.5"),
        ("label", ["a"], "frame row 1: expected a text or a whole number as label"),
        ("label", float("inf"), "frame row 1: expected a text or a whole number as label"),
        ("label", "  ", "frame row 1: the label is missing"),
    ],
)
def test_missing_and_wrong_values_are_located(column, value, message):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, dtype=object)
    frame.at[1, column] = value
    with pytest.raises(DataError, match=message):
        read_text_examples(frame)
    if value is None:
        frame.at[1, column] = pandas.NA
        with pytest.raises(DataError, match=message):
            read_text_examples(frame)


def test_missing_labels_in_files_are_located(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"a\nb",pos\nc,\n')
    with pytest.raises(DataError, match=r"a\.csv:4: the label is missing \(column 'label' is empty\)"):
        read_text_examples(path)
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": null}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: the label is missing"):
        read_text_examples(path)
    path = write(tmp_path / "b.jsonl", '{"text": null, "label": 1}\n')
    with pytest.raises(DataError, match=r"b\.jsonl:1: the text is missing"):
        read_text_examples(path)


def test_a_header_alone_is_no_data(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv: there are no rows"):
        read_text_examples(write(tmp_path / "a.csv", "text,label\n"))


SPLIT_CSV = "part,text,label\ntrain,a,1\ntest,b,2\nvalid,c,3\n train ,d,1\nrest,e,\n"


def test_split_columns_choose_rows(tmp_path):
    path = write(tmp_path / "a.csv", SPLIT_CSV)
    train = read_text_examples(path, split="part", split_value="train")
    assert train == TextExamples(["a", "d"], [1, 1], ["a.csv:2", "a.csv:5"])
    both = read_text_examples(path, split="part", split_value=["valid", "test"])
    assert both.texts == ["b", "c"]
    assert read_text_examples(path, split="part", split_value="rest", label=None).texts == ["e"]


def test_label_types_are_those_of_the_whole_file(tmp_path):
    path = write(tmp_path / "a.csv", "part,text,label\ntrain,a,1\ntest,b,x\n")
    assert read_text_examples(path, split="part", split_value="train").labels == ["1"]


def test_split_errors(tmp_path):
    path = write(tmp_path / "a.csv", SPLIT_CSV)
    with pytest.raises(DataError, match=r"no row has 'trian' in column 'part'; found 'train' \(2 rows\).*'train'\?"):
        read_text_examples(path, split="part", split_value="trian")
    with pytest.raises(DataError, match="no row has 'dev'"):
        read_text_examples(path, split="part", split_value=["train", "dev"])
    with pytest.raises(DataError, match="given together"):
        read_text_examples(path, split="part")
    with pytest.raises(DataError, match="given together"):
        read_text_examples(path, split_value="train")
    with pytest.raises(DataError, match="names no part"):
        read_text_examples(path, split="part", split_value=[])
    with pytest.raises(DataError, match="there is no column 'split'"):
        read_text_examples(path, split="split", split_value="train")


def test_split_of_a_folder(tmp_path):
    for name in ("train/pos/1", "train/neg/1", "test/pos/1"):
        file = tmp_path / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    assert read_text_examples(tmp_path, split="split", split_value="train") == TextExamples(
        ["train/neg/1", "train/pos/1"], ["neg", "pos"], ["train/neg/1.txt", "train/pos/1.txt"]
    )


def test_reader_options_pass_through(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("gut|ä\nschlecht|b\n".encode("latin-1"))
    examples = read_text_examples(
        path, format="csv", header=["text", "label"], delimiter="|", quote=None, encoding="latin-1"
    )
    assert examples.labels == ["ä", "b"]


def test_progress_counts_rows(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "a,1\n" * 2500)
    seen: list[int] = []
    read_text_examples(path, progress=seen.append)
    assert seen == [1000, 2000, 2500]


def test_align_labels_takes_the_type_of_the_model():
    examples = TextExamples(["a", "b"], ["1", "0"], ["f:1", "f:2"])
    assert align_labels(examples, [0, 1]) == [1, 0]
    assert align_labels(TextExamples(["a"], [1], ["f:1"]), ["1", "x"]) == ["1"]


def test_align_labels_locates_an_unseen_label():
    examples = TextExamples(["a", "b"], ["positive", "posotive"], ["f.csv:2", "f.csv:3"])
    message = r"f\.csv:3: the label 'posotive' is not one .*\('negative', 'positive'\)\. Did you mean 'positive'\?"
    with pytest.raises(DataError, match=message):
        align_labels(examples, ["negative", "positive"])
    with pytest.raises(DataError, match="no labels"):
        align_labels(TextExamples(["a"], None, ["f:1"]), [0, 1])


def test_duplicated_texts_pass_over_case_and_white_space():
    train = ["A  good\nfilm", "好 看", "Straße"]
    test = ["a good film ", "agood film", "好\u3000看", "STRASSE", "", "a good film"]
    assert duplicated_texts(train, test) == [0, 2, 3, 5]
    assert duplicated_texts([], test) == []
