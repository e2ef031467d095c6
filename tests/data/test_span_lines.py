from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.data.tagged import read_tagged, write_tagged
from tidegate.errors import DataError


def write(folder: Path, *records: Any) -> Path:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_spans_of_characters(tmp_path: Path):
    records = [
        {"id": 7, "text": "Zoë 👩🏽‍🚀 met Bo.", "spans": [{"start": 0, "end": 3, "label": "PER"}, [13, 15, "PER"]]},
        {"id": 8, "text": "", "spans": []},
    ]
    assert records[0]["text"][13:15] == "Bo"
    examples = read_tagged(write(tmp_path, *records))
    assert examples.sentences == [["Zoë", "👩🏽‍🚀", "met", "Bo", "."], []]
    assert examples.tags == [["B-PER", "O", "O", "B-PER", "O"], []]
    written = write_tagged(tmp_path / "b.jsonl", examples, examples.tags)
    lines = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["spans"] == [
        {"start": 0, "end": 3, "label": "PER"},
        {"start": 13, "end": 15, "label": "PER"},
    ]
    assert [line["id"] for line in lines] == [7, 8]
    assert read_tagged(written).tags == examples.tags


def test_a_span_cuts_the_token_it_ends_in(tmp_path: Path):
    path = write(tmp_path, {"text": "pre-Islamic art", "entities": [{"start": 4, "end": 11, "type": "MISC"}]})
    examples = read_tagged(path)
    assert examples.sentences == [["pre-", "Islamic", "art"]]
    assert examples.tags == [["O", "B-MISC", "O"]]


def test_tokens_with_tags_and_intents(tmp_path: Path):
    path = write(
        tmp_path,
        {"tokens": ["to", "boston"], "slots": ["O", "B-city"], "intent": "flight"},
        {"tokens": [], "slots": [], "intent": "none"},
    )
    examples = read_tagged(path)
    assert examples.tags == [["O", "B-city"], []]
    assert examples.intents == ["flight", "none"]
    written = write_tagged(tmp_path / "b.jsonl", examples, [["O", "O"], []])
    first = json.loads(written.read_text().splitlines()[0])
    assert first == {"tokens": ["to", "boston"], "slots": ["O", "O"], "intent": "flight"}


def test_other_names_and_other_tokens(tmp_path: Path):
    path = write(tmp_path, {"sentence": "北京好", "marks": [[0, 2, "LOC"]]})
    fields = {"text": "sentence", "spans": "marks"}
    examples = read_tagged(path, fields=fields, tokenizer="characters")
    assert (examples.sentences, examples.tags) == ([["北", "京", "好"]], [["B-LOC", "I-LOC", "O"]])
    with pytest.raises(DataError, match=r"there is no field 'sentense'\. Did you mean 'sentence'"):
        read_tagged(path, fields={"text": "sentense"})
    with pytest.raises(DataError, match="fields: 'txt' is none of"):
        read_tagged(path, fields={"txt": "sentence"})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "ab", "spans": [[0, 3, "X"]]}, r"the span .* lies outside the text of 2 characters"),
        ({"text": "ab", "spans": [[1, 1, "X"]]}, "lies outside"),
        ({"text": "ab", "spans": [[0, True, "X"]]}, "lies outside"),
        ({"text": "ab", "spans": [[0, 1]]}, "expected spans as"),
        ({"text": "ab", "spans": {"start": 0}}, "expected a list of spans"),
        ({"text": "abc", "spans": [[0, 2, "X"], [1, 3, "Y"]]}, "overlap; a token has one tag"),
        ({"text": "a  b", "spans": [[1, 3, "X"]]}, "holds white space alone"),
        ({"text": 3, "spans": []}, "expected a text in 'text', found 3"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, "found 1 tokens, 2 tags"),
        ({"tokens": "a", "tags": ["O"]}, "expected a list of texts in 'tokens'"),
        ({"words": 1}, "expected a list of texts"),
        ({"sentence": "a"}, 'expected a field "text"'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, record: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message) as caught:
        read_tagged(write(tmp_path, record))
    assert "a.jsonl:1: " in str(caught.value)


def test_all_lines_have_the_fields_of_the_first(tmp_path: Path):
    path = write(tmp_path, {"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a"]})
    with pytest.raises(DataError, match=r"a\.jsonl:2: there is no field 'tags'"):
        read_tagged(path)
