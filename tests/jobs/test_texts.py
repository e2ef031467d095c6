from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tidegate.data.bundled import load_reviews
from tidegate.errors import DataError
from tidegate.jobs.texts import read_texts


def test_lines_tables_folders_and_bundled_reviews(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write("one\n二\n")
    assert list(read_texts(tmp_path / "t.txt.gz")) == ["one\n", "二\n"]
    (tmp_path / "t.csv").write_text('body,n\n"a, b",1\nc,2\n', encoding="utf-8")
    assert list(read_texts(tmp_path / "t.csv", "body")) == ["a, b", "c"]
    found = list(read_texts("bundled:reviews_zh"))
    assert found == list(load_reviews("zh", "train").texts)
    with pytest.raises(DataError, match="there is no bundled data set 'reviews_fr'"):
        list(read_texts(Path("bundled:reviews_fr")))


def test_encodings(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("电影\n国王\n".encode("gb18030"))
    assert list(read_texts(tmp_path / "t.txt", encoding="gb18030")) == ["电影\n", "国王\n"]
    with pytest.raises(DataError, match=r"t\.txt:1: expected UTF-8 text"):
        list(read_texts(tmp_path / "t.txt"))
    (tmp_path / "t.csv").write_bytes("text\n电影\n".encode("utf-16"))
    assert list(read_texts(tmp_path / "t.csv", encoding="utf-16")) == ["电影"]
    (tmp_path / "t.csv").write_bytes(b"text\nfilm\xff\n")
    assert list(read_texts(tmp_path / "t.csv", errors="replace")) == ["film\ufffd"]


def test_a_nul_byte_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\nt\0wo\n")
    with pytest.raises(DataError, match=r"t\.txt:2: found a NUL byte"):
        list(read_texts(tmp_path / "t.txt"))


def test_how_far_the_reading_is(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a line\n" * 2500, encoding="utf-8")
    told: list[int] = []
    assert len(list(read_texts(tmp_path / "t.txt", progress=told.append))) == 2500
    assert told == [1000, 2000]
