from __future__ import annotations

import pickle
import random

import pytest

from tidegate.data.vocabulary import UNKNOWN, Vocabulary
from tidegate.errors import DataError


def test_order_is_frequency_then_text_whatever_the_order_of_the_counts():
    counts = [("b", 2), ("a", 2), ("好", 5), ("z", 1), ("the", 9), (UNKNOWN, 50)]
    for seed in range(5):
        random.Random(seed).shuffle(counts)
        vocabulary = Vocabulary.from_counts(dict(counts), max_size=100)
        assert vocabulary.tokens == (UNKNOWN, "the", "好", "a", "b", "z")


def test_max_size_counts_the_unknown_token():
    counts = {"a": 3, "b": 2, "c": 2}
    assert Vocabulary.from_counts(counts, max_size=3).tokens == (UNKNOWN, "a", "b")
    assert Vocabulary.from_counts(counts, max_size=1).tokens == (UNKNOWN,)


def test_min_count_leaves_out_rare_tokens():
    assert Vocabulary.from_counts({"a": 3, "b": 2, "c": 1}, max_size=9, min_count=2).tokens == (UNKNOWN, "a", "b")


def test_encode_and_decode():
    vocabulary = Vocabulary([UNKNOWN, "a", "好"])
    assert vocabulary.encode(["好", "x", "a", UNKNOWN]) == [2, 0, 1, 0]
    assert vocabulary.decode([2, 0, 1]) == ["好", UNKNOWN, "a"]
    assert "a" in vocabulary and "x" not in vocabulary
    assert list(vocabulary) == [UNKNOWN, "a", "好"] and len(vocabulary) == 3
    for number in (-1, 3):
        with pytest.raises(DataError, match=f"token id {number} is not from 0 to 2"):
            vocabulary.decode([number])


def test_equality_hash_and_pickle():
    vocabulary = Vocabulary([UNKNOWN, "a"])
    assert vocabulary.encode(["a"]) == [1]
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    assert hash(Vocabulary([UNKNOWN, "a"])) == hash(vocabulary)
    assert vocabulary != Vocabulary([UNKNOWN, "b"])
    assert vocabulary != (UNKNOWN, "a")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "begins with '<unk>'"),
        (["a"], r"begins with '<unk>', found \['a'\]"),
        ([UNKNOWN, "a", "a"], "token 2 of the vocabulary is a repeat: 'a'"),
        ([UNKNOWN, 3], "token 1 of the vocabulary is not a text: 3"),
    ],
)
def test_broken_token_lists(tokens, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(tokens)
