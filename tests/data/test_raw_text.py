from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data.raw_text import TAGGING_TOKENIZERS, cut_text, split_sentences
from tidegate.errors import DataError


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Mr. Smith's U.S. visit", "Mr. | Smith | 's | U.S. | visit"),
        ("They don't know; we'll see.", "They | do | n't | know | ; | we | 'll | see | ."),
        ("a one-year-old (5th) AT&T", "a | one-year-old | ( | 5th | ) | AT&T"),
        ("on 1996-08-30 at 3.5m, 1,000", "on | 1996-08-30 | at | 3.5m | , | 1,000"),
        ("O'Neill said “hi”…", "O'Neill | said | “ | hi | ” | …"),
        ("see https://a.b/c?d=1. Mail x@y.org!", "see | https://a.b/c?d=1 | . | Mail | x@y.org | !"),
        ("他去了北京。OK", "他 | 去 | 了 | 北 | 京 | 。 | OK"),
        ("नमस्ते cafe\u0301", "नमस्ते | cafe\u0301"),
        ("🇨🇳👩🏽‍🚀!", "🇨🇳 | 👩🏽‍🚀 | !"),
        ("wait...what--", "wait | ... | what | --"),
        ("", ""),
        (" \n\t\u3000", ""),
    ],
)
def test_words(text: str, tokens: str):
    assert " | ".join(token.text for token in cut_text(text)) == tokens


@pytest.mark.parametrize("tokenizer", list(TAGGING_TOKENIZERS))
@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(), max_size=40) | st.text("ab'’n t.。!-&1,\u0301\u200d👩🏽😀京A\n", max_size=40))
def test_every_character_but_white_space_is_in_one_token(tokenizer: str, text: str):
    tokens = cut_text(text, tokenizer)
    covered = [place for token in tokens for place in range(token.start, token.end)]
    assert covered == sorted(set(covered))
    assert {place for place, letter in enumerate(text) if not letter.isspace()} == set(covered)
    assert all(text[token.start : token.end] == token.text and token.text for token in tokens)
    sentences = split_sentences(text, tokens)
    assert [token for sentence in sentences for token in sentence] == tokens
    assert all(sentences)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He left. She stayed.", ["He left .", "She stayed ."]),
        ("Dr. Who met J. Smith in the U.S. yesterday.", ["Dr. Who met J. Smith in the U.S. yesterday ."]),
        ("It cost 3.5 approx. that. is all", ["It cost 3.5 approx . that . is all"]),
        ('"Go!" he said. (Really?) Yes', ['" Go ! " he said .', "( Really ? )", "Yes"]),
        ("他走了。“好！”她说：走。再见", ["他 走 了 。", "“ 好 ！ ”", "她 说 ： 走 。", "再 见"]),
        ("one\ntwo\r\nthree", ["one", "two", "three"]),
        ("Wait... What?! No", ["Wait ...", "What ? !", "No"]),
    ],
)
def test_sentences(text: str, sentences: list[str]):
    found = split_sentences(text, cut_text(text))
    assert [" ".join(token.text for token in sentence) for sentence in found] == sentences


def test_text_that_is_cut_already():
    found = cut_text(" I do n't .\u3000他们 走", "blanks")
    assert [(token.text, token.start) for token in found] == [
        ("I", 1),
        ("do", 3),
        ("n't", 6),
        (".", 10),
        ("他们", 12),
        ("走", 15),
    ]


def test_an_unknown_tokenizer():
    with pytest.raises(DataError, match="Did you mean 'words'"):
        cut_text("a", "word")
