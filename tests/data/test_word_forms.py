from __future__ import annotations

import numpy as np
import pytest

from tidegate.data.language_words import LanguageWords
from tidegate.data.vocabulary import Vocabulary
from tidegate.data.word_forms import LONGEST_WORD, WordFields, WordForms, character_vocabulary

WORDS = Vocabulary(["<unk>", "cat", "cats", "电影"])
LETTERS = character_vocabulary(WORDS.tokens[1:])


def read(row: np.ndarray) -> str:
    return "".join(LETTERS.tokens[number] if number else "?" for number in row[row >= 0])


def test_characters_are_those_of_the_words_and_each_word_counts_once():
    assert LETTERS.tokens == ("<unk>", "a", "c", "t", "s", "影", "电")


def test_known_words_keep_their_ids_and_others_get_the_next_ones():
    forms = WordForms(WordFields(WORDS, LETTERS))
    assert [forms.number(word) for word in ("act", "看电影", "act")] == [4, 5, 4]
    rows = forms.rows(np.array([2, 5, 0, 4, 3]))
    assert rows.shape == (5, 1 + LONGEST_WORD)
    assert rows.dtype == np.int64
    assert rows[:, 0].tolist() == [2, 5, 0, 4, 3]
    # The unknown word has no letters of its own; a letter that no word has is the unknown one.
    assert [read(row[1:]) for row in rows] == ["cats", "?电影", "?", "act", "电影"]
    assert forms.rows(np.empty(0, np.int64)).shape == (0, 1 + LONGEST_WORD)


def test_many_words_and_a_long_one():
    forms = WordForms(WordFields(WORDS, LETTERS))
    words = ["c" * (number % 7 + 1) + "at" * (number // 7 + 1) for number in range(700)]
    numbers = np.array([forms.number(word) for word in words])
    assert len(set(numbers.tolist())) == 700
    half = LONGEST_WORD // 2
    for row, word in zip(forms.rows(numbers), words, strict=True):
        assert read(row[1:]) == (word if len(word) <= LONGEST_WORD else word[:half] + word[-half:])


def test_words_beyond_the_last_number_are_the_unknown_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tidegate.data.word_forms._MOST_FORMS", 2)
    forms = WordForms(WordFields(WORDS, LETTERS))
    assert [forms.number(word) for word in ("act", "tact", "taste", "act")] == [4, 5, 0, 4]
    assert forms.further == ["act", "tact"]


def test_ids_of_a_language_model_stand_beside():
    cased = LanguageWords(Vocabulary(["<unk>", "Cat", "act"]), False, {"size": 3})
    lower = LanguageWords(Vocabulary(["<unk>", "act"]), True, {"size": 3})
    found = []
    for language in (cased, lower):
        forms = WordForms(WordFields(WORDS, None, language))
        found.append(forms.rows(np.array([forms.number("Act"), forms.number("act"), 1])).tolist())
    assert found == [[[4, 0], [5, 2], [1, 0]], [[4, 1], [5, 1], [1, 0]]]
    both = WordForms(WordFields(WORDS, LETTERS, lower)).rows(np.array([2]))[0]
    assert both[:2].tolist() == [2, 0] and read(both[2:]) == "cats"
    assert LanguageWords.from_dict(lower.to_dict()) == lower
    assert cased.arguments == {"num_tokens": 3, "size": 3}
