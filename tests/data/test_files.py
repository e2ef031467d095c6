from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from tidegate.data.files import checked_encoding, checked_lines, existing, open_text, plain_suffix
from tidegate.errors import DataError


def read(path: Path, **options: str) -> str:
    with open_text(path, **options) as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.csv", bytes), ("a.csv.gz", gzip.compress), ("a.CSV.XZ", lzma.compress), ("a.bz2", bz2.compress)],
)
def test_plain_and_compressed_files_hold_the_same_text(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack("\ufeff好看, très bien\r\n".encode()))
    assert read(path, newline="") == "好看, très bien\r\n"


def test_plain_suffix_passes_over_the_compression():
    assert plain_suffix(Path("a.b/reviews.CSV.GZ")) == ".csv"
    assert plain_suffix(Path("reviews.jsonl")) == ".jsonl"
    assert plain_suffix(Path("reviews.gz")) == ""


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf", b"x" * 65530 + b"\n"])
def test_bad_utf8_is_located(tmp_path, head):
    path = tmp_path / "a.csv"
    path.write_bytes(head + "一\n二\n".encode() + b"caf\xe9 noir\n")
    line = 3 + head.count(b"\n")
    with pytest.raises(
        DataError, match=rf"a\.csv:{line}: expected UTF-8 text, found the byte 0xe9; .*encoding='gb18030'"
    ):
        read(path)
    assert read(path, errors="replace").endswith("caf\ufffd noir\n")
    assert read(path, errors="ignore").endswith("caf noir\n")


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_bad_bytes_after_a_character_that_lies_across_two_pieces_are_located(tmp_path, encoding):
    text = "x\n" * 10 + "x" * ((1 << 16) - 21) + "好\n"
    good = text.encode(encoding)[: -len("\n".encode(encoding))] if encoding == "utf-16" else text.encode(encoding)
    bad = b"\x00\xdc\n\x00" if encoding == "utf-16" else b"fine\n\xff\xff\n"
    path = tmp_path / "a.csv"
    path.write_bytes(good + bad)
    with pytest.raises(DataError, match=rf"a\.csv:{11 if encoding == 'utf-16' else 13}: .*0x"):
        read(path, encoding=encoding)


def test_a_character_cut_off_at_the_end_is_located(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("a\nb\n好".encode()[:-1])
    with pytest.raises(DataError, match=r"a\.csv:3: .*cut off at the end"):
        read(path)


def test_bad_utf8_in_a_compressed_file_is_located(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"a\n\xff\n"))
    with pytest.raises(DataError, match=r"a\.tsv\.gz:2: .*0xff"):
        read(path)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (gzip.compress(b"text"), r"ends in \.gz"),
        (lzma.compress(b"text"), r"ends in \.xz"),
        ("text,label\n".encode("utf-16"), "encoding='utf-16'"),
        (b"PK\x03\x04\x14\xff\xff", "zip archive or an office document"),
    ],
)
def test_foreign_content_is_recognised(tmp_path, content, advice):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=advice):
        read(path)


def test_other_encodings(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("很好\n".encode("gb18030"))
    assert read(path, encoding="gb18030") == "很好\n"
    path.write_bytes("很好\n".encode("utf-16"))
    assert read(path, encoding="UTF16") == "很好\n"
    path.write_bytes(b"good\n\x80\n")
    with pytest.raises(DataError, match=r"a\.csv:2: expected ASCII text, found the byte 0x80"):
        read(path, encoding="ascii")


def test_wrong_options_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x")
    with pytest.raises(DataError, match=r"encoding='utf-9'.*no such encoding"):
        read(path, encoding="utf-9")
    with pytest.raises(DataError, match=r"errors='replce'.*Did you mean 'replace'\?"):
        read(path, errors="replce")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(b"text,label\n" * 1000)[:-20]),
        ("a.csv.xz", lzma.compress(b"text,label\n" * 1000)[:-20]),
        ("a.csv.bz2", bz2.compress(b"text,label\n" * 1000)[:-20]),
        ("a.csv.gz", b"text,label\n"),
        ("a.csv.xz", b"text,label\n"),
        ("a.csv.bz2", b"text,label\n"),
    ],
)
def test_damaged_compression_is_an_error(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged or cut short|cannot be read"):
        read(path)


def test_missing_files_name_the_nearest(tmp_path):
    (tmp_path / "reviews.csv").write_text("x")
    with pytest.raises(
        DataError, match=r"review\.csv: there is no such file or folder\. Did you mean 'reviews\.csv'\?"
    ):
        existing(tmp_path / "review.csv")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        existing(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(DataError, match="expected a file, found a folder"):
        read(tmp_path)


def test_nul_bytes_are_located():
    lines = checked_lines(iter(["fine\n", "no\0t fine\n"]), Path("a.csv"))
    assert next(lines) == "fine\n"
    with pytest.raises(DataError, match=r"a\.csv:2: found a NUL byte.*utf-16.*tr -d '\\000' < a\.csv > clean\.csv"):
        next(lines)


@pytest.mark.parametrize("name", ["utf-9", "base64", "rot13", "a\0b"])
def test_an_encoding_that_is_none_of_characters_is_refused(name: str):
    with pytest.raises(DataError, match="Python knows no such encoding"):
        checked_encoding(name)
    assert checked_encoding("GB18030") == "gb18030"
    assert checked_encoding("UTF8") == "utf-8-sig"


def test_utf_16_without_its_mark_is_refused_with_a_cure(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("好\n".encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.txt: expected UTF-16 text: .*pass encoding='utf-16-le'"):
        with open_text(path, encoding="utf-16") as stream:
            stream.read()
    with open_text(path, encoding="utf-16-le") as stream:
        assert stream.read() == "好\n"
