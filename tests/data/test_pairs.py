from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.data.pairs import flatten, read_pair_line, shown, texts_of
from tidegate.data.sources import duplicated_texts, read_text_examples
from tidegate.errors import DataError


def test_all_first_texts_come_before_all_second_ones() -> None:
    assert flatten([("a", "b"), ("c", "d"), ("e", "f")]) == (["a", "c", "e", "b", "d", "f"], 2)
    assert flatten(["a", "b"]) == (["a", "b"], 1)
    assert flatten([]) == ([], 1)
    with pytest.raises(DataError, match="pairs of texts in all rows or in none, found 1 of 2"):
        flatten([("a", "b"), "c"])


def test_rows_in_words() -> None:
    assert shown("a") == "a" and shown(("问", "答")) == "问 ⇄ 答"
    assert texts_of("a") == ("a",) and texts_of(("a", "b")) == ("a", "b")


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("a\tb", ("a", "b")),
        ("\t好", ("", "好")),
        ('["a, b", "c"]', ("a, b", "c")),
        ('{"question1": "a", "question2": "b"}', ("a", "b")),
        ("[a]\tb", ("[a]", "b")),
    ],
)
def test_a_line_holds_a_pair(line: str, pair: tuple[str, str]) -> None:
    assert read_pair_line(line) == pair


@pytest.mark.parametrize("line", ["", "one text", "a\tb\tc", '["a"]', '["a", 2]', "[a, b", '{"a": "b"}', "{}"])
def test_a_line_without_a_pair_is_refused(line: str) -> None:
    with pytest.raises(DataError, match="expected two texts with a tab between them, or a JSON list of two"):
        read_pair_line(line)


def test_two_columns_are_read_as_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("label,q1,q2\n1,问一,问二\n0,a,\n", encoding="utf-8")
    examples = read_text_examples(path, text=["q1", "q2"])
    assert examples.texts == [("问一", "问二"), ("a", "")]
    assert examples.labels == [1, 0]
    with pytest.raises(DataError, match="there is no column 'q3'"):
        read_text_examples(path, text=["q1", "q3"])


def test_a_pair_is_known_again_whole() -> None:
    assert duplicated_texts([("a", "b"), ("c", "d")], [("a", "d"), ("C ", "d"), ("b", "a")]) == [1]
