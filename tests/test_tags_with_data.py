"""The readers of tagged sentences on whole real data sets: `make test-data`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from real_data import real_data
from tidegate.data.tag_schemes import convert_tags, illegal_places, recognise_scheme, spans_of
from tidegate.data.tagged import TaggedExamples, read_tagged, write_tagged

pytestmark = pytest.mark.data


def read(name: str, **options: Any) -> TaggedExamples:
    return read_tagged(real_data(name), **options)


@pytest.mark.parametrize(
    ("name", "scheme", "sentences", "tokens", "types"),
    [
        ("conll2003/eng.train.gz", "iob1", 14_041, 203_621, {"PER": 6_600, "LOC": 7_140, "ORG": 6_321, "MISC": 3_438}),
        ("conll2003/eng.testa.gz", "iob1", 3_250, 51_362, {"PER": 1_842, "LOC": 1_837, "ORG": 1_341, "MISC": 922}),
        ("conll2003/eng.testb.gz", "iob1", 3_453, 46_435, {"PER": 1_617, "LOC": 1_668, "ORG": 1_661, "MISC": 702}),
        ("resume_ner/test.char.bmes.gz", "bmes", 477, 15_100, None),
        ("atis/test.jsonl.gz", "bio", 893, 9_164, None),
        ("snips/train.jsonl.gz", "bio", 13_084, 117_700, None),
    ],
)
def test_counts_schemes_and_back(
    name: str, scheme: str, sentences: int, tokens: int, types: dict[str, int] | None, tmp_path: Path
):
    examples = read(name)
    assert (len(examples), examples.num_tokens) == (sentences, tokens)
    tags = examples.tags or []
    assert recognise_scheme(tags) == scheme
    assert not any(illegal_places(row, scheme) for row in tags)
    converted = [convert_tags(row, scheme, "bioes") for row in tags]
    assert [convert_tags(row, "bioes", scheme) for row in converted] == tags
    if types is not None:
        assert Counter(span.type for row in tags for span in spans_of(row)) == types
        assert examples.layout.documents > 200  # pyright: ignore[reportAttributeAccessIssue]
    again = read_tagged(write_tagged(tmp_path / Path(name).stem.replace(".gz", ""), examples, tags))
    assert (again.sentences, again.tags) == (examples.sentences, tags)


def test_msra_has_a_few_sentences_that_break_their_scheme():
    examples = read("msra_ner/test.bio.xz")
    tags = examples.tags or []
    assert (len(examples), examples.num_tokens) == (4_631, 172_601)
    assert recognise_scheme(tags) == "bio"
    assert sum(bool(illegal_places(row, "bio")) for row in tags) == 11
    assert sum(tag.startswith("B-") for row in tags for tag in row) == 6_181
