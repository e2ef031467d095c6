from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.data.tagged import read_tagged, write_tagged
from tidegate.errors import DataError

LINES = "中国/ns  人民/n  １/m  //w\n\n新/a  世纪/n\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "lines.txt").write_text(LINES, encoding="utf-8")
    return tmp_path / "lines.txt"


def test_words_with_their_tags(path: Path):
    examples = read_tagged(path, format="word/tag")
    assert examples.sentences == [["中国", "人民", "１", "/"], ["新", "世纪"]]
    assert examples.tags == [["ns", "n", "m", "w"], ["a", "n"]]
    assert examples.origins == ["lines.txt:1", "lines.txt:3"]
    written = write_tagged(path.parent / "b.txt", examples, examples.tags)
    assert written.read_text(encoding="utf-8") == LINES.replace("\n\n", "\n")


def test_characters_with_their_places_in_words(path: Path):
    examples = read_tagged(path, format="word/tag", unit="characters")
    assert examples.sentences[1] == ["新", "世", "纪"]
    assert examples.tags is not None and examples.tags == [list("BEBESS"), list("SBE")]
    written = write_tagged(path.parent / "b.txt", examples, examples.tags)
    assert written.read_text(encoding="utf-8") == "中国  人民  １  /\n新  世纪\n"


def test_characters_with_places_and_tags(path: Path):
    examples = read_tagged(path, format="word/tag", unit="tagged-characters")
    assert examples.tags is not None and examples.tags[1] == ["S-a", "B-n", "E-n"]
    written = write_tagged(path.parent / "b.txt", examples, examples.tags)
    assert written.read_text(encoding="utf-8") == LINES.replace("\n\n", "\n")


@pytest.mark.parametrize("line", ["中国 人民/n", "/n", "中国/"])
def test_a_word_without_tag_is_named(tmp_path: Path, line: str):
    (tmp_path / "a.txt").write_text(f"新/a\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt:2: expected words with their tags"):
        read_tagged(tmp_path / "a.txt", format="word/tag")


def test_an_unknown_unit(path: Path):
    with pytest.raises(DataError, match="Did you mean 'characters'"):
        read_tagged(path, format="word/tag", unit="character")
