from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data.tag_schemes import (
    SCHEMES,
    Span,
    convert_tags,
    full_tags,
    illegal_places,
    recognise_scheme,
    repair_tags,
    segment_tables,
    spans_of,
    split_tag,
    tags_of,
    transition_masks,
)
from tidegate.errors import DataError

SEGMENTING = [scheme for scheme in SCHEMES if scheme != "plain"]


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Segments of a sentence, in order and without overlap, and its length."""
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = place + draw(st.integers(0, 2))
        place = start + draw(st.integers(1, 4))
        spans.append(Span(start, place, draw(st.sampled_from(["PER", "LOC", "a-b"]))))
    return spans, place + draw(st.integers(0, 2))


# --- conversion


@settings(max_examples=200, deadline=None)
@given(sentences(), st.sampled_from(SEGMENTING), st.sampled_from(SEGMENTING))
def test_conversion_there_and_back_is_exact(sentence, source, target):
    spans, length = sentence
    tags = tags_of(spans, length, source)
    assert spans_of(tags) == spans
    assert illegal_places(tags, source) == []
    assert repair_tags(tags, source) == tags
    there = convert_tags(tags, source, target)
    assert illegal_places(there, target) == []
    assert convert_tags(there, target, source) == tags


def test_each_scheme_by_hand():
    spans = [Span(0, 1, "A"), Span(1, 4, "A"), Span(5, 7, "B")]
    expected = {
        "iob1": "I-A B-A I-A I-A O I-B I-B",
        "bio": "B-A B-A I-A I-A O B-B I-B",
        "bioes": "S-A B-A I-A E-A O B-B E-B",
        "bmes": "S-A B-A M-A E-A O B-B E-B",
        "bilou": "U-A B-A I-A L-A O B-B L-B",
    }
    for scheme, tags in expected.items():
        assert tags_of(spans, 7, scheme) == tags.split()
        assert spans_of(tags.split()) == spans


def test_tags_without_types_are_words():
    assert spans_of(["B", "E", "S", "B", "I", "E"]) == [Span(0, 2, ""), Span(2, 3, ""), Span(3, 6, "")]
    assert tags_of([Span(0, 2, ""), Span(2, 3, "")], 3, "bmes") == ["B", "E", "S"]


# --- recognition


@pytest.mark.parametrize(
    ("rows", "scheme"),
    [
        (["I-PER I-PER O I-LOC B-LOC"], "iob1"),
        (["I-PER O", "O"], "iob1"),
        (["B-PER I-PER O B-LOC B-LOC"], "bio"),
        (["B-PER O"], "bio"),
        (["B-PER I-PER E-PER S-LOC"], "bioes"),
        (["S-LOC O"], "bioes"),
        (["B-N M-N E-N O"], "bmes"),
        (["B E S", "B M E"], "bmes"),
        (["B E S"], "bioes"),
        (["B-X L-X U-Y O"], "bilou"),
        (["NN VB O"], "plain"),
        (["I O"], "plain"),  # no B: perhaps letters of some other meaning
        (["O O O"], "plain"),
        ([""], "plain"),
        (["B-PER I-PER", "I-LOC O", "B-LOC O"], "bio"),  # one segment of three begins as it should not
        (["I-PER I-PER", "B-LOC O", "I-LOC O"], "iob1"),
        (["B-X M-X L-X"], "plain"),  # letters of no one scheme
    ],
)
def test_schemes_are_recognised(rows: list[str], scheme: str):
    assert recognise_scheme([row.split() for row in rows]) == scheme


# --- illegal tags


@pytest.mark.parametrize(
    ("tags", "scheme", "places"),
    [
        ("O I-A I-A", "bio", [1]),
        ("B-A I-B O", "bio", [1]),
        ("B-A O", "iob1", [0]),
        ("I-A B-B", "iob1", [1]),
        ("B-A O", "bioes", [1]),
        ("B-A", "bioes", [1]),
        ("I-A E-A", "bioes", [0]),
        ("B-A E-B S-A", "bioes", [1]),
        ("S-A E-A", "bilou", [1]),
        ("anything goes", "plain", []),
        ("", "bio", []),
    ],
)
def test_illegal_places(tags: str, scheme: str, places: list[int]):
    assert illegal_places(tags.split(), scheme) == places


def test_repair_keeps_the_segments_that_conlleval_sees():
    tags = ["O", "I-A", "I-A", "B-A", "I-B"]
    assert repair_tags(tags, "bio") == ["O", "B-A", "I-A", "B-A", "B-B"]
    assert spans_of(repair_tags(tags, "bio")) == spans_of(tags)


def test_what_is_no_tag_is_refused():
    assert split_tag("U-a-b") == ("S", "a-b")
    with pytest.raises(DataError, match="the tag 'NN' marks no segment"):
        spans_of(["NN"])
    with pytest.raises(DataError, match="Did you mean 'bioes'"):
        convert_tags(["O"], "bioe", "bio")
    with pytest.raises(DataError, match="one marks segments"):
        convert_tags(["O"], "plain", "bio")


# --- what a model needs


def test_all_letters_of_each_type_are_there():
    assert full_tags(["O", "S-X"], "bioes") == ["O", "B-X", "I-X", "E-X", "S-X"]
    assert full_tags(["B", "E"], "bmes") == ["B", "M", "E", "S"]
    assert full_tags(["B-b", "O", "B-a"], "bio") == ["O", "B-a", "I-a", "B-b", "I-b"]
    assert full_tags(["v", "n", "v"], "plain") == ["n", "v"]


@pytest.mark.parametrize("scheme", SEGMENTING)
def test_masks_allow_exactly_the_legal_sequences(scheme: str):
    tags = full_tags(tags_of([Span(0, 3, "A"), Span(3, 4, "A"), Span(5, 6, "B")], 7, scheme), scheme)
    follow, first, last = transition_masks(tags, scheme)
    for length in (1, 2, 3):
        for path in itertools.product(range(len(tags)), repeat=length):
            legal = first[path[0]] and last[path[-1]] and all(follow[a, b] for a, b in itertools.pairwise(path))
            assert legal == (not illegal_places([tags[number] for number in path], scheme))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["O", "B-A", "I-A", "E-A", "S-A", "I-B", "B-B"]), max_size=8))
def test_tables_of_segments_say_what_spans_of_says(tags):
    names = ["O", "B-A", "I-A", "E-A", "S-A", "I-B", "B-B"]
    begins, ends, types = segment_tables(names)
    numbers = [names.index(tag) for tag in tags]
    around = [len(names), *numbers, len(names)]
    starts = [n for n in range(len(tags)) if begins[around[n], around[n + 1]]]
    stops = [n + 1 for n in range(len(tags)) if ends[around[n + 1], around[n + 2]]]
    kinds = [["", "A", "B"][types[numbers[start]]] for start in starts]
    assert [Span(*one) for one in zip(starts, stops, kinds, strict=True)] == spans_of(tags)
    assert begins.dtype == np.bool_
