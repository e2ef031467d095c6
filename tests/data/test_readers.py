from __future__ import annotations

import csv
import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data.readers import Record
from tidegate.data.sources import read_records
from tidegate.errors import DataError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def records(source, **options) -> list[Record]:
    return list(read_records(source, **options))


def test_csv_with_quotes_line_ends_and_crlf_keeps_its_line_numbers(tmp_path):
    path = write(
        tmp_path / "a.csv",
        '\ufefftext,label\r\n"one, ""two""\r\nthree\n",pos\r\n\r\n很好,neg\r\n" spaced ",pos',
    )
    assert records(path) == [
        Record({"text": 'one, "two"\r\nthree\n', "label": "pos"}, "a.csv:2"),
        Record({"text": "很好", "label": "neg"}, "a.csv:6"),
        Record({"text": " spaced ", "label": "pos"}, "a.csv:7"),
    ]


def test_tsv_takes_quotation_marks_as_text_unless_told(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"Great" film\tpos\n"so so\tneg\n')
    assert [record.fields["text"] for record in records(path)] == ['"Great" film', '"so so']
    quoted = write(tmp_path / "b.tsv", 'text\tlabel\n"a\tb\nc"\tpos\nd\tneg\n')
    assert records(quoted, quote='"') == [
        Record({"text": "a\tb\nc", "label": "pos"}, "b.tsv:2"),
        Record({"text": "d", "label": "neg"}, "b.tsv:4"),
    ]
    for content, found in (('"a\nb"\tpos', 1), ('"a\tb"\tpos', 3)):
        path = write(tmp_path / "c.tsv", f"text\tlabel\n{content}\n")
        with pytest.raises(DataError, match=rf"c\.tsv:2: expected 2 fields \(text, label\), found {found}; .*quote="):
            records(path)


def test_csv_options_delimiter_header_and_columns(tmp_path):
    path = write(tmp_path / "a.csv", "gut;ja;1\nschlecht;nein;2\n")
    found = records(path, delimiter=";", header=["text", "label", "n"], columns=["label", "text"])
    assert found == [
        Record({"label": "ja", "text": "gut"}, "a.csv:1"),
        Record({"label": "nein", "text": "schlecht"}, "a.csv:2"),
    ]


def test_csv_format_by_option_for_a_name_that_does_not_tell(tmp_path):
    path = write(tmp_path / "a.data", "text,label\ngood,1\n")
    assert records(path, format="csv")[0].fields == {"text": "good", "label": "1"}
    with pytest.raises(
        DataError, match=r"a\.data: the name does not tell the format.*\.csv.*rename the file, or in Python"
    ):
        records(path)
    with pytest.raises(DataError, match=r"format='cvs'.*Did you mean 'csv'\?"):
        records(path, format="cvs")
    with pytest.raises(DataError, match="format='folder' was asked for, found a file"):
        records(path, format="folder")


def test_a_text_of_a_hundred_thousand_tokens_is_one_field(tmp_path):
    text = "word " * 100_000
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(f"text,label\n{text},pos\n".encode()))
    assert records(path)[0].fields["text"] == text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.csv", "\n\n", r"a\.csv: the file is empty"),
        ("a.jsonl", "", r"a\.jsonl: the file is empty"),
        ("a.jsonl", "\n \n", r"a\.jsonl: the file is empty"),
        ("a.csv", "text,label\na,b\nc\n", r"a\.csv:3: expected 2 fields \(text, label\), found 1; complete the row"),
        ("a.csv", "text,label\na,b,c\n", r"a\.csv:2: .*found 3; put fields that hold a comma into quotation marks"),
        ("a.csv", 'text,label\n"x\ny",1\na b,c,d\n', r"a\.csv:4: expected 2 fields"),
        ("a.tsv", "text\tlabel\na\tb\tc\n", r"a\.tsv:2: .*found 3; a field that holds a tab .*pass quote="),
        ("a.csv", 'text,label\n"a,b\nc,d\n', r"a\.csv:2: a field in quotation marks .*not closed.*quote=None"),
        ("a.csv", 'text,label\nok,1\n"a" b,c\n', r"a\.csv:3: a field in quotation marks"),
        ("a.csv", "text,label,text\na,b,c\n", r"a\.csv:1: the column 'text' stands there twice"),
        ("a.csv", "text,label\na,b\nc\0d,e\n", r"a\.csv:3: found a NUL byte"),
        ("a.jsonl", '{"text": "a"}\n{"text": \0"b"}\n', r"a\.jsonl:2: found a NUL byte"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": oops}\n', r"a\.jsonl:3: this line is not JSON: .*column 10"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', r"a\.jsonl:2: expected one JSON object a line.*found an array"),
        ("a.jsonl", "3\n", r"a\.jsonl:1: expected one JSON object a line.*found a number"),
        ("a.json", '[\n{"text": "a"}\n]\n', r"a\.json:1: this line is not JSON.*one JSON object a line, not one array"),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "\n", r"a\.jsonl:1: this line is not JSON"),
    ],
)
def test_broken_files_are_located(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        records(path, columns=["text"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "Review,Label\na,b\n", r"a\.csv:1: there is no column 'label'; found 'Review', 'Label'\. .*'Label'"),
        ("a.csv", "text,labels\na,b\n", r"a\.csv:1: there is no column 'label'; found 'text', 'labels'\. .*'labels'"),
        ("a.csv", "text;label\na;b\n", r"found 'text;label'\..*pass delimiter=';'"),
        ("a.csv", "text\tlabel\na\tb\n", r"pass delimiter='\\t'$"),
        ("a.csv", "good,1\nbad,0\n", r"found 'good', '1'\. If the first line is a row already, .*pass header="),
        ("a.jsonl", '{"label": 1}\n{"text": "a"}\n', r"a\.jsonl:2: there is no column 'label'; found 'text'"),
    ],
)
def test_wrong_columns_list_what_was_found(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        records(path, columns=["label"])


@pytest.mark.parametrize("option", [{"delimiter": "::"}, {"quote": ""}, {"quote": "''"}])
def test_csv_options_are_single_characters(tmp_path, option):
    path = write(tmp_path / "a.csv", "text\na\n")
    with pytest.raises(DataError, match=f"{next(iter(option))}=.*expected one character"):
        records(path, **option)


def test_json_lines_keep_types_and_line_separators_in_text(tmp_path):
    path = tmp_path / "a.jsonl.xz"
    rows = [{"text": "a\u2028b\u0085c\nd", "label": 1}, {"text": "很好", "label": "x", "more": [1]}]
    lines = "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(lzma.compress(lines.encode()))
    assert records(path) == [Record(rows[0], "a.jsonl.xz:1"), Record(rows[1], "a.jsonl.xz:3")]


def test_folder_in_the_form_of_aclimdb(tmp_path):
    for name in ("train/neg/0_1", "train/pos/2_9", "train/pos/10_8", "test/pos/0_10", "train/unsup/0_0"):
        write(tmp_path / f"{name}.txt", f"text of {name}\n")
    write(tmp_path / "train/urls_pos.txt", "an address")
    write(tmp_path / "test/urls_pos.txt", "an address")
    write(tmp_path / "README", "about")
    (tmp_path / "test/neg").mkdir()
    (tmp_path / "test/neg/0_3.txt.gz").write_bytes(gzip.compress("压缩的".encode()))
    found = [(record.origin, *record.fields.values()) for record in records(tmp_path)]
    assert found == [
        ("test/neg/0_3.txt.gz", "test", "neg", "压缩的", "0_3.txt.gz"),
        ("test/pos/0_10.txt", "test", "pos", "text of test/pos/0_10", "0_10.txt"),
        ("train/neg/0_1.txt", "train", "neg", "text of train/neg/0_1", "0_1.txt"),
        ("train/pos/10_8.txt", "train", "pos", "text of train/pos/10_8", "10_8.txt"),
        ("train/pos/2_9.txt", "train", "pos", "text of train/pos/2_9", "2_9.txt"),
    ]
    parts = [(record.origin, record.fields) for record in records(tmp_path / "train", columns=["label"])]
    assert parts == [("neg/0_1.txt", {"label": "neg"})] + [
        (f"pos/{name}.txt", {"label": "pos"}) for name in ("10_8", "2_9")
    ]


def test_folder_errors(tmp_path):
    write(tmp_path / "notes.md", "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"expected a folder a class with one \.txt file a text.*found empty/, notes\.md"
    ):
        records(tmp_path)
    write(tmp_path / "pos/1.txt", "x")
    with pytest.raises(DataError, match="there is no column 'split'; found 'label', 'text', 'name'"):
        records(tmp_path, columns=["split"])
    (tmp_path / "pos/2.txt").write_bytes(b"ok\n\xff")
    with pytest.raises(DataError, match=r"pos/2\.txt:2: expected UTF-8"):
        records(tmp_path)
    assert [record.fields["text"] for record in records(tmp_path, errors="replace")] == ["x", "ok\n\ufffd"]


def test_pandas_and_polars_frames_give_the_same_records():
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    columns = {"text": ["一", "", "c"], "label": [1, 0, 1], "more": [0.5, 1.5, 2.5]}
    expected = [
        Record({"text": text, "label": label}, f"frame row {row}")
        for row, (text, label) in enumerate([("一", 1), ("", 0), ("c", 1)])
    ]
    assert records(pandas.DataFrame(columns, index=[7, 8, 9]), columns=["text", "label"]) == expected
    assert records(polars.DataFrame(columns), columns=["text", "label"]) == expected
    with pytest.raises(
        DataError, match=r"the frame: there is no column 'txt'; found 'text', 'label', 'more'\..*'text'"
    ):
        records(pandas.DataFrame(columns), columns=["txt"])
    with pytest.raises(DataError, match=r"found a LazyFrame; call \.collect\(\)"):
        records(polars.DataFrame(columns).lazy())
    with pytest.raises(DataError, match="expected a pandas DataFrame, found a Series"):
        records(pandas.Series(["a"]))


def test_other_sources_are_refused():
    with pytest.raises(DataError, match=r"expected a path .* or a pandas or polars frame, found list"):
        records(["text"])


text_fields = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(text_fields, text_fields), min_size=1, max_size=5), st.sampled_from(["\r\n", "\n"]))
def test_what_the_csv_module_writes_is_read_back_with_its_line(tmp_path_factory, rows, line_end):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL)
        writer.writerow(["text", "label"])
        writer.writerows(rows)
    found = records(path)
    assert [tuple(record.fields.values()) for record in found] == rows
    content = path.read_bytes().decode().replace("\r\n", "\n").replace("\r", "\n")
    lines = content.split("\n")
    for record in found:
        number = int(record.origin.split(":")[1])
        start = '"' + record.fields["text"].replace('"', '""').replace("\r\n", "\n").replace("\r", "\n").split("\n")[0]
        assert lines[number - 1].startswith(start)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(st.sampled_from(["text", "label"]), st.text(max_size=30), min_size=2), max_size=4))
def test_json_lines_round_trip_any_unicode(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{"text": "", "label": ""}, *rows]), encoding="utf-8")
    assert [record.fields for record in records(path)][1:] == rows
