from __future__ import annotations

import json

import numpy as np
import pytest

from tidegate.data.token_encoder import CASES, TokenEncoder
from tidegate.errors import BundleError, DataError

SENTENCES = [["EU", "rejects", "1996", "lamb"], ["EU", "eu"], ["Lamb", "x1"]]
OPTIONS = {"lowercase": True, "replace_digits": False, "max_vocabulary": 100, "min_count": 1, "use_bigrams": False}


def fit(**options: object) -> TokenEncoder:
    return TokenEncoder.fit(SENTENCES, **{**OPTIONS, **options})  # pyright: ignore


def words_of(encoder: TokenEncoder, tokens: list[str]) -> list[int]:
    encoded = encoder.encode([tokens])
    return encoded.words[encoded.forms[0]].tolist()


def test_words_by_count_without_capitals():
    encoder = fit()
    assert encoder.words.tokens == ("<unk>", "eu", "lamb", "1996", "rejects", "x1")
    assert words_of(encoder, ["EU", "Eu", "LAMB", "none"]) == [1, 1, 2, 0]
    assert fit(lowercase=False).words.tokens[:2] == ("<unk>", "EU")
    assert fit(min_count=2).words.tokens == ("<unk>", "eu", "lamb")
    assert fit(max_vocabulary=2).words.tokens == ("<unk>", "eu")


def test_digits_may_be_one():
    encoder = fit(replace_digits=True)
    assert "0000" in encoder.words
    assert words_of(encoder, ["1234", "x7"]) == [encoder.words.index["0000"], encoder.words.index["x0"]]


def test_words_with_given_vectors_follow_those_that_learn():
    encoder = fit(min_count=2, known_words=["the", "lamb", "rejects", "a", "the"])
    # "rejects" occurs once, but has a vector; "the" and "a" occur only in the file.
    assert encoder.words.tokens == ("<unk>", "eu", "lamb", "rejects")
    assert encoder.extra_words == ("the", "a")
    assert words_of(encoder, ["The", "A", "lamb", "1996"]) == [4, 5, 2, 0]


def test_forms_characters_and_cases():
    encoded = fit().encode([["EU", "eu", "EU"], [], ["1996", "Ab-C", "x1", "2x2", "Lamb", "20", "%", "4th", "北"]])
    assert [row.tolist() for row in encoded.forms] == [[0, 1, 0], [], [2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert encoded.lengths.tolist() == [3, 0, 9]
    names = [CASES[case] for case in encoded.cases]
    assert names == [
        "upper",
        "lower",
        "number",
        "mixed",
        "some digits",
        "mostly digits",
        "initial",
        "number",
        "other",
        "some digits",
        "other",
    ]
    letters = fit().characters
    second = encoded.characters[encoded.starts[1] : encoded.starts[2]]
    assert second.tolist() == [letters.index["e"], letters.index["u"]]
    unknown = encoded.characters[encoded.starts[10] : encoded.starts[11]]
    assert unknown.tolist() == [0]


def test_pairs_of_neighbours():
    encoder = fit(use_bigrams=True, lowercase=False)
    assert encoder.bigrams is not None
    found = encoder.encode([["EU", "rejects"], []]).bigrams
    assert found is not None
    assert [encoder.bigrams.tokens[number] for number in found[0]] == ["EU\nrejects", "<unk>"]
    assert found[1].shape == (0,)
    assert "x1\n</s>" in encoder.bigrams


def test_it_comes_back_from_json():
    for encoder in (fit(), fit(use_bigrams=True, known_words=["the"])):
        again = TokenEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
        assert again == encoder
        first, second = encoder.encode(SENTENCES), again.encode(SENTENCES)
        np.testing.assert_array_equal(first.words, second.words)
    with pytest.raises(BundleError, match="expected the keys"):
        TokenEncoder.from_dict({"words": []})
    with pytest.raises(BundleError, match="a vocabulary begins with"):
        TokenEncoder.from_dict({**fit().to_dict(), "words": ["a"]})


def test_what_is_no_sentence_is_refused():
    with pytest.raises(DataError, match="the 1 sentences have no token"):
        TokenEncoder.fit([[]], **OPTIONS)  # pyright: ignore
    with pytest.raises(DataError, match="sentence 1: expected tokens that are texts of a character at least: ''"):
        fit().encode([["a"], [""]])
