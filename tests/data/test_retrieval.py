from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tidegate.data.retrieval import Document, read_documents, read_judgments, read_queries
from tidegate.errors import DataError

SMART = """\
.I 1
.T
wing in a
slipstream .
.A
brenckman,m.
.B
j. ae. scs. 25, 1958, 324.
.W
lift of
.5 of the wing
.I 2
.T
.A
.W
"""


def test_json_lines_with_titles(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl.gz"
    rows = [{"_id": 7, "title": "A", "text": "b c"}, {"_id": "x", "title": " ", "text": "d"}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert read_documents(path) == [Document("7", "A\nb c"), Document("x", "d")]
    assert read_documents(path, title="none") == [Document("7", "b c"), Document("x", "d")]


def test_tables_without_identifiers_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('text,body\n"a, b",x\nc,y\n', encoding="utf-8")
    assert read_documents(tmp_path / "d.csv") == [Document("1", "a, b"), Document("2", "c")]
    assert [document.text for document in read_documents(tmp_path / "d.csv", text="body")] == ["x", "y"]
    with pytest.raises(DataError, match=r"d\.csv:2: expected a text under 'words', found text, body"):
        read_documents(tmp_path / "d.csv", text="words")


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("好", encoding="utf-8")
    (tmp_path / "one.txt").write_text("1", encoding="utf-8")
    (tmp_path / "other.md").write_text("no", encoding="utf-8")
    assert read_documents(tmp_path) == [Document("b/two.txt", "好"), Document("one.txt", "1")]
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="expected documents, found none"):
        read_documents(tmp_path / "c")


def test_smart_collections(tmp_path: Path) -> None:
    path = tmp_path / "cran.all"
    path.write_text(SMART, encoding="utf-8")
    assert read_documents(path) == [
        Document("1", "wing in a\nslipstream .\nlift of\n.5 of the wing\n"),
        Document("2", ""),
    ]
    (tmp_path / "bad").write_text("some text\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad:1: expected JSON Lines, CSV.*found 'some text'"):
        read_documents(tmp_path / "bad")
    (tmp_path / "bad").write_text(".T\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad:1: expected"):
        read_documents(tmp_path / "bad")


def test_queries(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("first one\n\nthird\n", encoding="utf-8")
    assert read_queries(tmp_path / "q.txt") == [Document("1", "first one"), Document("3", "third")]
    (tmp_path / "cran.qry").write_text(".I 001\n.W\na\n.I 004\n.W\nb\n", encoding="utf-8")
    assert [query.id for query in read_queries(tmp_path / "cran.qry")] == ["001", "004"]
    assert [query.id for query in read_queries(tmp_path / "cran.qry", by_place=True)] == ["1", "2"]


def test_judgments_of_beir_trec_and_cranfield(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text("query-id\tcorpus-id\tscore\n1\td1\t1\n1\td2\t0\n3\td1\t2\n", encoding="utf-8")
    assert read_judgments(path) == {"1": {"d1"}, "3": {"d1"}}
    path.write_text("1 0 d1 1\n1 0 d2 0\n", encoding="utf-8")
    assert read_judgments(path) == {"1": {"d1"}}
    path.write_text("1 184 2 \n1 29 -1 \n\n2 3 3\n", encoding="utf-8")
    assert read_judgments(path, least=-1) == {"1": {"184", "29"}, "2": {"3"}}
    assert read_judgments(path) == {"1": {"184"}, "2": {"3"}}
    path.write_text("1 2 3\n1 2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"qrels:2: expected query, document and grade .* found 2 fields"):
        read_judgments(path)
    path.write_text("1 2 good\n", encoding="utf-8")
    with pytest.raises(DataError, match="qrels:1: expected a whole number as the grade, found 'good'"):
        read_judgments(path)
    path.write_text("1 2 0\n", encoding="utf-8")
    with pytest.raises(DataError, match="no line has a grade of at least 1"):
        read_judgments(path)


def test_identifiers_are_distinct(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="the identifier 'a' is there twice"):
        read_documents(tmp_path / "d.jsonl")
